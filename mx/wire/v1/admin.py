# Written by protos/generate.py from mx/admin/v1/admin.proto; do not edit.
from __future__ import annotations

import mx.wire.v1.p2p
from mx.wire.runtime import add_file, message, service_handler, stub_class

DESCRIPTOR = add_file(
    b'\n\x17mx/admin/v1/admin.proto\x12\x0bmx.admin.v1\x1a\tp2p.proto"\x18\n\x16GetServerSt'
    b'atusRequest"\xed\x02\n\x17GetServerStatusResponse\x12\x0f\n\x07version\x18\x01 \x01(\t\x12\x15\n\rstar'
    b'ted_at_ms\x18\x02 \x01(\x03\x12\r\n\x05ready\x18\x03 \x01(\x08\x12\x10\n\x08draining\x18\x04 \x01(\x08\x12\x15\n\rstore_backen'
    b'd\x18\x05 \x01(\t\x12\x10\n\x08store_ok\x18\x06 \x01(\x08\x12\x18\n\x10store_latency_ms\x18\x07 \x01(\x01\x12T\n\x11sources_b'
    b'y_status\x18\x08 \x03(\x0b29.mx.admin.v1.GetServerStatusResponse.SourcesBySt'
    b'atusEntry\x12\x0e\n\x06listen\x18\t \x01(\t\x12\x15\n\rsettings_file\x18\n \x01(\t\x12\x11\n\tread_only\x18\x0b '
    b'\x01(\x08\x1a6\n\x14SourcesByStatusEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\x04:\x028\x01"Z\n\nP'
    b'eerRecord\x12\x10\n\x08endpoint\x18\x01 \x01(\t\x12\x12\n\ngeneration\x18\x02 \x01(\t\x12\x0f\n\x07host_id\x18\x03 \x01(\t'
    b'\x12\x15\n\rlayout_digest\x18\x04 \x01(\t"F\n\tWorkerKey\x12\x11\n\tsource_id\x18\x01 \x01(\t\x12\x11\n\tworke'
    b'r_id\x18\x02 \x01(\t\x12\x13\n\x0bworker_rank\x18\x03 \x01(\r"\xdb\x03\n\tSourceRow\x12#\n\x03key\x18\x01 \x01(\x0b2\x16.mx.'
    b'admin.v1.WorkerKey\x12\x12\n\nmodel_name\x18\x02 \x01(\t\x12/\n\x06status\x18\x03 \x01(\x0e2\x1f.model_e'
    b'xpress.p2p.SourceStatus\x12\x15\n\rupdated_at_ms\x18\x04 \x01(\x03\x12\x13\n\x0baccelerator\x18\x05 '
    b'\x01(\t\x12\x1a\n\rtraining_step\x18\x06 \x01(\x04H\x00\x88\x01\x01\x12\x1d\n\x10layout_signature\x18\x07 \x01(\tH\x01\x88\x01\x01\x126'
    b'\n\x08topology\x18\x08 \x03(\x0b2$.mx.admin.v1.SourceRow.TopologyEntry\x12\x18\n\x0bsource'
    b'_load\x18\t \x01(\x02H\x02\x88\x01\x01\x12\x1c\n\x14worker_grpc_endpoint\x18\n \x01(\t\x12%\n\x04peer\x18\x0b \x01(\x0b2\x17.m'
    b'x.admin.v1.PeerRecord\x1a/\n\rTopologyEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01'
    b'(\t:\x028\x01B\x10\n\x0e_training_stepB\x13\n\x11_layout_signatureB\x0e\n\x0c_source_load"a\n'
    b'\x13AnnouncePeerRequest\x12#\n\x03key\x18\x01 \x01(\x0b2\x16.mx.admin.v1.WorkerKey\x12%\n\x04pee'
    b'r\x18\x02 \x01(\x0b2\x17.mx.admin.v1.PeerRecord"%\n\x14AnnouncePeerResponse\x12\r\n\x05know'
    b'n\x18\x01 \x01(\x08"\\\n\x10FindPeersRequest\x123\n\x08identity\x18\x01 \x01(\x0b2!.model_express.p2'
    b'p.SourceIdentity\x12\x13\n\x0bworker_rank\x18\x02 \x01(\r"L\n\x11FindPeersResponse\x12\x11\n\tso'
    b'urce_id\x18\x01 \x01(\t\x12$\n\x04rows\x18\x02 \x03(\x0b2\x16.mx.admin.v1.SourceRow"\x80\x03\n\x15ListSour'
    b'ceRowsRequest\x12\x16\n\tsource_id\x18\x01 \x01(\tH\x00\x88\x01\x01\x123\n\x08identity\x18\x02 \x01(\x0b2!.model_'
    b'express.p2p.SourceIdentity\x124\n\x06status\x18\x03 \x01(\x0e2\x1f.model_express.p2p.S'
    b'ourceStatusH\x01\x88\x01\x01\x12\x17\n\nmodel_name\x18\x04 \x01(\tH\x02\x88\x01\x01\x12\x18\n\x0bworker_rank\x18\x05 \x01(\rH\x03'
    b'\x88\x01\x01\x12\x1e\n\x11min_training_step\x18\x06 \x01(\x04H\x04\x88\x01\x01\x12\x1e\n\x11min_updated_at_ms\x18\x07 \x01(\x03H\x05'
    b'\x88\x01\x01\x12\r\n\x05limit\x18\x08 \x01(\rB\x0c\n\n_source_idB\t\n\x07_statusB\r\n\x0b_model_nameB\x0e\n\x0c_w'
    b'orker_rankB\x14\n\x12_min_training_stepB\x14\n\x12_min_updated_at_ms">\n\x16ListSo'
    b'urceRowsResponse\x12$\n\x04rows\x18\x01 \x03(\x0b2\x16.mx.admin.v1.SourceRow"8\n\x10GetSou'
    b'rceRequest\x12\x11\n\tsource_id\x18\x01 \x01(\t\x12\x11\n\tworker_id\x18\x02 \x01(\t"<\n\x11GetSourceRes'
    b'ponse\x12\'\n\x05entry\x18\x01 \x01(\x0b2\x18.mx.admin.v1.SourceEntry"\x94\x02\n\x0bSourceEntry\x12\x11'
    b'\n\tsource_id\x18\x01 \x01(\t\x12\x11\n\tworker_id\x18\x02 \x01(\t\x123\n\x08identity\x18\x03 \x01(\x0b2!.model_e'
    b'xpress.p2p.SourceIdentity\x121\n\x06worker\x18\x04 \x01(\x0b2!.model_express.p2p.Wo'
    b'rkerMetadata\x12\x18\n\x0bsource_load\x18\x05 \x01(\x02H\x00\x88\x01\x01\x12%\n\x04peer\x18\x06 \x01(\x0b2\x17.mx.admin.'
    b'v1.PeerRecord\x12&\n\x03pod\x18\x07 \x01(\x0b2\x19.mx.admin.v1.PodReferenceB\x0e\n\x0c_source'
    b'_load"<\n\x0cPodReference\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0b\n\x03uid\x18\x02 \x01(\t\x12\x11\n\tnamespace\x18\x03 '
    b'\x01(\t"<\n\x15WithdrawSourceRequest\x12#\n\x03key\x18\x01 \x01(\x0b2\x16.mx.admin.v1.WorkerKe'
    b'y")\n\x16WithdrawSourceResponse\x12\x0f\n\x07removed\x18\x01 \x01(\x08"\xdc\x03\n\x0eTransferReport\x12'
    b'\x13\n\x0btransfer_id\x18\x01 \x01(\t\x12\x12\n\nmodel_name\x18\x02 \x01(\t\x12\x11\n\tsource_id\x18\x03 \x01(\t\x12\x11\n\tw'
    b"orker_id\x18\x04 \x01(\t\x12\x13\n\x0bworker_rank\x18\x05 \x01(\r\x12'\n\x08strategy\x18\x06 \x01(\x0e2\x15.mx.admin"
    b'.v1.Strategy\x12)\n\x05state\x18\x07 \x01(\x0e2\x1a.mx.admin.v1.TransferState\x12\x13\n\x0bbytes'
    b'_total\x18\x08 \x01(\x04\x12\x12\n\nbytes_done\x18\t \x01(\x04\x12\x10\n\x08verified\x18\n \x01(\x08\x12\x15\n\rstarted_at'
    b'_ms\x18\x0b \x01(\x03\x12\x0f\n\x07seconds\x18\x0c \x01(\x01\x12"\n\x06stages\x18\r \x03(\x0b2\x12.mx.admin.v1.Stage\x12)'
    b'\n\x07sources\x18\x0e \x03(\x0b2\x18.mx.admin.v1.SourceShare\x12\x10\n\x08segments\x18\x0f \x01(\x04\x12\x17\n\x0fs'
    b'egments_reread\x18\x10 \x01(\x04\x12\x0f\n\x07tensors\x18\x11 \x01(\x04\x12\x14\n\x0cverify_cpu_s\x18\x12 \x01(\x01\x12\x0e\n\x06r'
    b'eason\x18\x13 \x01(\t"&\n\x05Stage\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0f\n\x07seconds\x18\x02 \x01(\x01"\x86\x01\n\x0bSourceSh'
    b'are\x12\x11\n\tworker_id\x18\x01 \x01(\t\x12\x10\n\x08endpoint\x18\x02 \x01(\t\x12\r\n\x05bytes\x18\x03 \x01(\x04\x12\x0e\n\x06gbit_'
    b's\x18\x04 \x01(\x01\x12\x10\n\x08segments\x18\x05 \x01(\x04\x12\x10\n\x08verified\x18\x06 \x01(\x08\x12\x0f\n\x07dropped\x18\x07 \x01(\t"D\n\x15'
    b'ReportTransferRequest\x12+\n\x06report\x18\x01 \x01(\x0b2\x1b.mx.admin.v1.TransferRepo'
    b'rt"\x18\n\x16ReportTransferResponse"%\n\x14ListTransfersRequest\x12\r\n\x05limit\x18\x01 '
    b'\x01(\r"E\n\x15ListTransfersResponse\x12,\n\x07reports\x18\x01 \x03(\x0b2\x1b.mx.admin.v1.Tran'
    b'sferReport"K\n\x08EntryKey\x12\x10\n\x08provider\x18\x01 \x01(\t\x12\x0c\n\x04name\x18\x02 \x01(\t\x12\x0e\n\x06commit'
    b'\x18\x03 \x01(\t\x12\x0f\n\x07weights\x18\x04 \x01(\x08"\x7f\n\x12EnsureModelRequest\x12\x10\n\x08provider\x18\x01 \x01(\t\x12'
    b'\x0c\n\x04name\x18\x02 \x01(\t\x12\x15\n\x08revision\x18\x03 \x01(\tH\x00\x88\x01\x01\x12\x16\n\x0eignore_weights\x18\x04 \x01(\x08\x12\r\n\x05'
    b'force\x18\x05 \x01(\x08B\x0b\n\t_revision"\xef\x01\n\x0eEnsureProgress\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.ad'
    b'min.v1.EntryKey\x12\x0e\n\x06status\x18\x02 \x01(\t\x12\x0f\n\x07message\x18\x03 \x01(\t\x12\x12\n\nbytes_done\x18\x04'
    b' \x01(\x04\x12\x13\n\x0bbytes_total\x18\x05 \x01(\x04\x12\x12\n\nfiles_done\x18\x06 \x01(\x04\x12\x13\n\x0bfiles_total\x18\x07 \x01'
    b'(\x04\x12\x11\n\x04rate\x18\x08 \x01(\x01H\x00\x88\x01\x01\x12\x12\n\x05eta_s\x18\t \x01(\x01H\x01\x88\x01\x01\x12\x0c\n\x04code\x18\n \x01(\tB\x07\n\x05_rate'
    b'B\x08\n\x06_eta_s"K\n\x15OpenModelFilesRequest\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.E'
    b'ntryKey\x12\x0e\n\x06holder\x18\x02 \x01(\t"\xa6\x01\n\x16OpenModelFilesResponse\x12"\n\x03key\x18\x01 \x01(\x0b2'
    b'\x15.mx.admin.v1.EntryKey\x12&\n\x05files\x18\x02 \x03(\x0b2\x17.mx.admin.v1.ServedFile\x12\x0e'
    b'\n\x06ticket\x18\x03 \x01(\t\x12\x0e\n\x06life_s\x18\x04 \x01(\x01\x12\x11\n\thttp_port\x18\x05 \x01(\r\x12\r\n\x05hosts\x18\x06 \x03(\t'
    b'"F\n\nServedFile\x12\x0c\n\x04path\x18\x01 \x01(\t\x12\x0c\n\x04size\x18\x02 \x01(\x04\x12\x0e\n\x06digest\x18\x03 \x01(\t\x12\x0c\n\x04xx'
    b'h3\x18\x04 \x01(\t"(\n\x16RenewModelFilesRequest\x12\x0e\n\x06ticket\x18\x01 \x01(\t"\x19\n\x17RenewModel'
    b'FilesResponse"(\n\x16CloseModelFilesRequest\x12\x0e\n\x06ticket\x18\x01 \x01(\t"\x19\n\x17Close'
    b'ModelFilesResponse"3\n\x11ListModelsRequest\x12\x10\n\x08provider\x18\x01 \x01(\t\x12\x0c\n\x04nam'
    b'e\x18\x02 \x01(\t"\xba\x01\n\x12ListModelsResponse\x12(\n\x07entries\x18\x01 \x03(\x0b2\x17.mx.admin.v1.Mo'
    b'delEntry\x12\x12\n\nused_bytes\x18\x02 \x01(\x04\x12\x12\n\nfree_bytes\x18\x03 \x01(\x04\x12\x12\n\ndisk_bytes\x18\x04'
    b' \x01(\x04\x12\x1b\n\x0emax_size_bytes\x18\x05 \x01(\x04H\x00\x88\x01\x01\x12\x0e\n\x06now_ms\x18\x06 \x01(\x03B\x11\n\x0f_max_size_b'
    b'ytes"\xd0\x02\n\nModelEntry\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\x0e\n\x06statu'
    b's\x18\x02 \x01(\t\x12\x15\n\rcreated_at_ms\x18\x03 \x01(\x03\x12\x17\n\x0flast_used_at_ms\x18\x04 \x01(\x03\x12\x0f\n\x07messa'
    b'ge\x18\x05 \x01(\t\x12\x13\n\x0bbytes_total\x18\x06 \x01(\x04\x12\x12\n\nbytes_done\x18\x07 \x01(\x04\x12\r\n\x05files\x18\x08 \x01(\x04'
    b'\x12\x12\n\ndisk_bytes\x18\t \x01(\x04\x12\x11\n\town_bytes\x18\n \x01(\x04\x12\r\n\x05owner\x18\x0b \x01(\t\x12\x1d\n\x03pin\x18\x0c '
    b'\x01(\x0b2\x10.mx.admin.v1.Pin\x12\x0f\n\x07readers\x18\r \x03(\t\x12\x1a\n\x12requested_revision\x18\x0e \x01'
    b'(\t\x12\x13\n\x0bretry_at_ms\x18\x0f \x01(\x03"9\n\x03Pin\x12\x15\n\x08until_ms\x18\x01 \x01(\x03H\x00\x88\x01\x01\x12\x0e\n\x06reason\x18'
    b'\x02 \x01(\tB\x0b\n\t_until_ms"c\n\x12RemoveModelRequest\x12\x10\n\x08provider\x18\x01 \x01(\t\x12\x0c\n\x04na'
    b'me\x18\x02 \x01(\t\x12\x13\n\x06commit\x18\x03 \x01(\tH\x00\x88\x01\x01\x12\r\n\x05force\x18\x04 \x01(\x08B\t\n\x07_commit"^\n\x11Remov'
    b'eModelUpdate\x12&\n\x07removed\x18\x01 \x03(\x0b2\x15.mx.admin.v1.EntryKey\x12\x13\n\x0bbytes_fr'
    b'eed\x18\x02 \x01(\x04\x12\x0c\n\x04done\x18\x03 \x01(\x08"c\n\x12PlanRemovalRequest\x12\x10\n\x08provider\x18\x01 \x01(\t\x12'
    b'\x0c\n\x04name\x18\x02 \x01(\t\x12\x13\n\x06commit\x18\x03 \x01(\tH\x00\x88\x01\x01\x12\r\n\x05force\x18\x04 \x01(\x08B\t\n\x07_commit">\n\x13'
    b'PlanRemovalResponse\x12\'\n\x04plan\x18\x01 \x01(\x0b2\x19.mx.admin.v1.EvictionPlan"6\n\x10'
    b'ShowModelRequest\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey"\xb0\x02\n\x11ShowMod'
    b'elResponse\x12&\n\x05entry\x18\x01 \x01(\x0b2\x17.mx.admin.v1.ModelEntry\x12\x0c\n\x04root\x18\x02 \x01(\t'
    b'\x12\x17\n\x0fcompleted_at_ms\x18\x03 \x01(\x03\x12%\n\x05files\x18\x04 \x03(\x0b2\x16.mx.admin.v1.ShownFile'
    b'\x12*\n\x0bshares_with\x18\x05 \x03(\x0b2\x15.mx.admin.v1.EntryKey\x12\r\n\x05owner\x18\x06 \x01(\t\x12\x1b\n\x13c'
    b'laim_expires_at_ms\x18\x07 \x01(\x03\x12\x13\n\x0bclaim_token\x18\x08 \x01(\x04\x12&\n\x06leases\x18\t \x03(\x0b2\x16.'
    b'mx.admin.v1.ReadLease\x12\x10\n\x08attempts\x18\n \x01(\r"c\n\tShownFile\x12\x0c\n\x04path\x18\x01 \x01'
    b'(\t\x12\x0c\n\x04size\x18\x02 \x01(\x04\x12\x0e\n\x06digest\x18\x03 \x01(\t\x12\x0c\n\x04xxh3\x18\x04 \x01(\t\x12\r\n\x05block\x18\x05 \x01(\t\x12\r\n'
    b'\x05users\x18\x06 \x01(\r"D\n\tReadLease\x12\x10\n\x08lease_id\x18\x01 \x01(\t\x12\x0e\n\x06holder\x18\x02 \x01(\t\x12\x15\n\re'
    b'xpires_at_ms\x18\x03 \x01(\x03"T\n\x0fPinModelRequest\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1'
    b'.EntryKey\x12\x1d\n\x03pin\x18\x02 \x01(\x0b2\x10.mx.admin.v1.Pin"\x12\n\x10PinModelResponse"\x8b\x01\n'
    b'\x13PlanEvictionRequest\x12\x15\n\x08to_bytes\x18\x01 \x01(\x04H\x00\x88\x01\x01\x12\x19\n\x0cunused_for_s\x18\x02 \x01('
    b'\x01H\x01\x88\x01\x01\x12$\n\x04keys\x18\x03 \x01(\x0b2\x16.mx.admin.v1.EntryKeysB\x0b\n\t_to_bytesB\x0f\n\r_un'
    b'used_for_s"0\n\tEntryKeys\x12#\n\x04keys\x18\x01 \x03(\x0b2\x15.mx.admin.v1.EntryKey"\x94\x01\n'
    b'\x0cEvictionPlan\x12$\n\x07victims\x18\x01 \x03(\x0b2\x13.mx.admin.v1.Judged\x12&\n\tsurvivors'
    b'\x18\x02 \x03(\x0b2\x13.mx.admin.v1.Judged\x12\x13\n\x0bbytes_freed\x18\x03 \x01(\x04\x12\x14\n\x0ctarget_bytes'
    b'\x18\x04 \x01(\x04\x12\x0b\n\x03met\x18\x05 \x01(\x08"K\n\x06Judged\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKe'
    b'y\x12\r\n\x05bytes\x18\x02 \x01(\x04\x12\x0e\n\x06reason\x18\x03 \x01(\t"?\n\x14PlanEvictionResponse\x12\'\n\x04plan'
    b'\x18\x01 \x01(\x0b2\x19.mx.admin.v1.EvictionPlan"=\n\x12RunEvictionRequest\x12\'\n\x04plan\x18'
    b'\x01 \x01(\x0b2\x19.mx.admin.v1.EvictionPlan"c\n\x11RunEvictionUpdate\x12\'\n\x04step\x18\x01 '
    b'\x01(\x0b2\x19.mx.admin.v1.EvictionStep\x12%\n\x03run\x18\x02 \x01(\x0b2\x18.mx.admin.v1.Evicti'
    b'onRun"n\n\x0cEvictionStep\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\r\n\x05byt'
    b'es\x18\x02 \x01(\x04\x12\x0e\n\x06stayed\x18\x03 \x01(\t\x12\x0c\n\x04done\x18\x04 \x01(\x04\x12\r\n\x05total\x18\x05 \x01(\x04"\xc0\x01\n\x0bEvicti'
    b"onRun\x12\x0e\n\x06run_id\x18\x01 \x01(\t\x12\x0f\n\x07trigger\x18\x02 \x01(\t\x12'\n\x04plan\x18\x03 \x01(\x0b2\x19.mx.admin."
    b'v1.EvictionPlan\x12\x13\n\x0bbytes_freed\x18\x04 \x01(\x04\x12\x15\n\rstarted_at_ms\x18\x05 \x01(\x03\x12\x16\n\x0ef'
    b'inished_at_ms\x18\x06 \x01(\x03\x12#\n\x06stayed\x18\x07 \x03(\x0b2\x13.mx.admin.v1.Judged"M\n\x13Veri'
    b'fyModelsRequest\x12$\n\x04keys\x18\x01 \x01(\x0b2\x16.mx.admin.v1.EntryKeys\x12\x10\n\x08on_faul'
    b't\x18\x02 \x01(\t"h\n\x0cVerifyUpdate\x12-\n\x08progress\x18\x01 \x01(\x0b2\x1b.mx.admin.v1.VerifyPr'
    b'ogress\x12)\n\x05entry\x18\x02 \x01(\x0b2\x1a.mx.admin.v1.EntryVerified"\xd2\x01\n\x0eVerifyProg'
    b'ress\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\x12\n\nbytes_done\x18\x02 \x01(\x04\x12\x13\n\x0b'
    b'bytes_total\x18\x03 \x01(\x04\x12\x14\n\x0centries_done\x18\x04 \x01(\x04\x12\x15\n\rentries_total\x18\x05 \x01(\x04\x12\x11'
    b'\n\x04rate\x18\x06 \x01(\x01H\x00\x88\x01\x01\x12\x12\n\x05eta_s\x18\x07 \x01(\x01H\x01\x88\x01\x01\x12\x0c\n\x04note\x18\x08 \x01(\tB\x07\n\x05_rateB\x08\n\x06'
    b'_eta_s"\xd9\x01\n\rEntryVerified\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\x0f\n\x07'
    b'outcome\x18\x02 \x01(\t\x12\r\n\x05files\x18\x03 \x01(\x04\x12\x12\n\nbytes_read\x18\x04 \x01(\x04\x12&\n\x06faults\x18\x05 \x03(\x0b'
    b'2\x16.mx.admin.v1.FileFault\x12\x0e\n\x06extras\x18\x06 \x03(\t\x12\x0e\n\x06detail\x18\x07 \x01(\t\x12(\n\twith'
    b'drawn\x18\x08 \x03(\x0b2\x15.mx.admin.v1.EntryKey"7\n\tFileFault\x12\x0c\n\x04path\x18\x01 \x01(\t\x12\x0c\n'
    b'\x04kind\x18\x02 \x01(\t\x12\x0e\n\x06detail\x18\x03 \x01(\t"$\n\x14GetCacheStatsRequest\x12\x0c\n\x04runs\x18\x01 \x01('
    b'\r"\x9a\x02\n\x15GetCacheStatsResponse\x12\x0c\n\x04root\x18\x01 \x01(\t\x12%\n\x05kinds\x18\x02 \x03(\x0b2\x16.mx.ad'
    b'min.v1.KindStats\x12\x12\n\nused_bytes\x18\x03 \x01(\x04\x12\x12\n\nfree_bytes\x18\x04 \x01(\x04\x12\x12\n\ndisk'
    b'_bytes\x18\x05 \x01(\x04\x12(\n\x06limits\x18\x06 \x01(\x0b2\x18.mx.admin.v1.CacheLimits\x12\x1b\n\x0enext_r'
    b'un_at_ms\x18\x07 \x01(\x03H\x00\x88\x01\x01\x12&\n\x04runs\x18\x08 \x03(\x0b2\x18.mx.admin.v1.EvictionRun\x12\x0e\n\x06n'
    b'ow_ms\x18\t \x01(\x03B\x11\n\x0f_next_run_at_ms"b\n\tKindStats\x12\x0c\n\x04kind\x18\x01 \x01(\t\x12\r\n\x05tot'
    b'al\x18\x02 \x01(\x04\x12\x0e\n\x06active\x18\x03 \x01(\x04\x12\r\n\x05bytes\x18\x04 \x01(\x04\x12\x19\n\x11reclaimable_bytes\x18\x05 \x01'
    b'(\x04"\xa2\x02\n\x0bCacheLimits\x12\x0f\n\x07enabled\x18\x01 \x01(\x08\x12\x1b\n\x0emax_size_bytes\x18\x02 \x01(\x04H\x00\x88\x01\x01'
    b'\x12!\n\x14min_free_space_bytes\x18\x03 \x01(\x04H\x01\x88\x01\x01\x12\x17\n\nmax_models\x18\x04 \x01(\x04H\x02\x88\x01\x01\x12\x1f\n\x12'
    b'unused_threshold_s\x18\x05 \x01(\x01H\x03\x88\x01\x01\x12\x12\n\nhigh_water\x18\x06 \x01(\x01\x12\x11\n\tlow_water\x18\x07'
    b' \x01(\x01\x12\x0f\n\x07grace_s\x18\x08 \x01(\x01B\x11\n\x0f_max_size_bytesB\x17\n\x15_min_free_space_byte'
    b'sB\r\n\x0b_max_modelsB\x15\n\x13_unused_threshold_s"1\n\x0cFeedPosition\x12\x0f\n\x07feed_'
    b'id\x18\x01 \x01(\t\x12\x10\n\x08sequence\x18\x02 \x01(\x04"9\n\x0cWatchRequest\x12)\n\x06resume\x18\x01 \x01(\x0b2\x19.mx.'
    b'admin.v1.FeedPosition"s\n\x0bWatchUpdate\x12+\n\x08snapshot\x18\x01 \x01(\x0b2\x19.mx.admi'
    b'n.v1.FeedSnapshot\x12)\n\x07changes\x18\x02 \x01(\x0b2\x18.mx.admin.v1.FeedChanges\x12\x0c\n\x04'
    b'more\x18\x03 \x01(\x08"\x9f\x03\n\x0cFeedSnapshot\x12+\n\x08position\x18\x01 \x01(\x0b2\x19.mx.admin.v1.Feed'
    b'Position\x12\x0e\n\x06now_ms\x18\x02 \x01(\x03\x124\n\x06server\x18\x03 \x01(\x0b2$.mx.admin.v1.GetServer'
    b'StatusResponse\x121\n\x05cache\x18\x04 \x01(\x0b2".mx.admin.v1.GetCacheStatsRespons'
    b'e\x12\x0f\n\x07dropped\x18\x05 \x01(\x04\x12(\n\x07entries\x18\x06 \x03(\x0b2\x17.mx.admin.v1.ModelEntry\x12-\n\t'
    b"downloads\x18\x07 \x03(\x0b2\x1a.mx.admin.v1.DownloadMoved\x12'\n\x07sources\x18\x08 \x03(\x0b2\x16.m"
    b'x.admin.v1.SourceRow\x12.\n\ttransfers\x18\t \x03(\x0b2\x1b.mx.admin.v1.TransferRe'
    b'port\x12&\n\x06events\x18\n \x03(\x0b2\x16.mx.admin.v1.FeedEvent"t\n\x0bFeedChanges\x12+\n\x08p'
    b'osition\x18\x01 \x01(\x0b2\x19.mx.admin.v1.FeedPosition\x12\x0e\n\x06now_ms\x18\x02 \x01(\x03\x12(\n\x07chan'
    b'ges\x18\x03 \x03(\x0b2\x17.mx.admin.v1.FeedChange"\xa1\x03\n\nFeedChange\x12&\n\x05entry\x18\x01 \x01(\x0b'
    b'2\x17.mx.admin.v1.ModelEntry\x12)\n\nentry_gone\x18\x02 \x01(\x0b2\x15.mx.admin.v1.Entr'
    b'yKey\x12,\n\x08download\x18\x03 \x01(\x0b2\x1a.mx.admin.v1.DownloadMoved\x121\n\x05cache\x18\x04 \x01('
    b'\x0b2".mx.admin.v1.GetCacheStatsResponse\x12&\n\x06source\x18\x05 \x01(\x0b2\x16.mx.admin'
    b'.v1.SourceRow\x12+\n\x0bsource_gone\x18\x06 \x01(\x0b2\x16.mx.admin.v1.WorkerKey\x12-\n\x08tr'
    b'ansfer\x18\x07 \x01(\x0b2\x1b.mx.admin.v1.TransferReport\x124\n\x06server\x18\x08 \x01(\x0b2$.mx.a'
    b'dmin.v1.GetServerStatusResponse\x12%\n\x05event\x18\t \x01(\x0b2\x16.mx.admin.v1.Fee'
    b'dEvent"X\n\rDownloadMoved\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12#\n\x06m'
    b'oving\x18\x02 \x01(\x0b2\x13.mx.admin.v1.Moving"\xa5\x01\n\x06Moving\x12\x12\n\nbytes_done\x18\x01 \x01(\x04\x12'
    b'\x13\n\x0bbytes_total\x18\x02 \x01(\x04\x12\x12\n\nfiles_done\x18\x03 \x01(\x04\x12\x13\n\x0bfiles_total\x18\x04 \x01(\x04\x12\x11\n'
    b'\x04rate\x18\x05 \x01(\x01H\x00\x88\x01\x01\x12\x12\n\x05eta_s\x18\x06 \x01(\x01H\x01\x88\x01\x01\x12\x0f\n\x07waiters\x18\x07 \x01(\rB\x07\n\x05_rateB\x08'
    b'\n\x06_eta_s"\xa1\x01\n\tFeedEvent\x12\x10\n\x08event_id\x18\x01 \x01(\t\x12\r\n\x05at_ms\x18\x02 \x01(\x03\x12\x0c\n\x04kind\x18'
    b'\x03 \x01(\t\x12\r\n\x05level\x18\x04 \x01(\t\x12\x0f\n\x07subject\x18\x05 \x01(\t\x12\x0c\n\x04text\x18\x06 \x01(\t\x12\x0e\n\x06server\x18\x07 '
    b'\x01(\t\x12\'\n\x06fields\x18\x08 \x03(\x0b2\x17.mx.admin.v1.EventField"\x8e\x01\n\nEventField\x12\x0c\n\x04n'
    b'ame\x18\x01 \x01(\t\x12\x11\n\x04text\x18\x02 \x01(\tH\x00\x88\x01\x01\x12\x13\n\x06number\x18\x03 \x01(\x03H\x01\x88\x01\x01\x12\x11\n\x04real\x18\x04 \x01(\x01H'
    b'\x02\x88\x01\x01\x12\x11\n\x04flag\x18\x05 \x01(\x08H\x03\x88\x01\x01B\x07\n\x05_textB\t\n\x07_numberB\x07\n\x05_realB\x07\n\x05_flag"B\n'
    b'\x11ListEventsRequest\x12\r\n\x05limit\x18\x01 \x01(\r\x12\r\n\x05kinds\x18\x02 \x03(\t\x12\x0f\n\x07subject\x18\x03 \x01('
    b'\t"<\n\x12ListEventsResponse\x12&\n\x06events\x18\x01 \x03(\x0b2\x16.mx.admin.v1.FeedEvent"'
    b'\x19\n\x17GetBackendStatesRequest"E\n\x18GetBackendStatesResponse\x12)\n\x06states'
    b'\x18\x01 \x03(\x0b2\x19.mx.admin.v1.BackendState"\x8f\x01\n\x0cBackendState\x12\x0c\n\x04duty\x18\x01 \x01(\t'
    b'\x12\x0f\n\x07backend\x18\x02 \x01(\t\x12\x0f\n\x07address\x18\x03 \x01(\t\x12\n\n\x02ok\x18\x04 \x01(\x08\x12\x12\n\nlatency_ms\x18\x05 \x01'
    b'(\x01\x12 \n\x05facts\x18\x06 \x03(\x0b2\x11.mx.admin.v1.Fact\x12\r\n\x05error\x18\x07 \x01(\t"#\n\x04Fact\x12\x0c\n\x04n'
    b'ame\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\t":\n\x13GetRawSourceRequest\x12#\n\x03key\x18\x01 \x01(\x0b2\x16.m'
    b'x.admin.v1.WorkerKey"8\n\x12GetRawModelRequest\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.adm'
    b'in.v1.EntryKey"D\n\x14GetRawRecordResponse\x12\x0f\n\x07backend\x18\x01 \x01(\t\x12\r\n\x05place'
    b'\x18\x02 \x01(\t\x12\x0c\n\x04text\x18\x03 \x01(\t"=\n\x16MarkSourceStaleRequest\x12#\n\x03key\x18\x01 \x01(\x0b2\x16.mx'
    b'.admin.v1.WorkerKey"(\n\x17MarkSourceStaleResponse\x12\r\n\x05known\x18\x01 \x01(\x08"%\n'
    b'\x12ReapSourcesRequest\x12\x0f\n\x07dry_run\x18\x01 \x01(\x08"t\n\x13ReapSourcesResponse\x12\x0c\n\x04s'
    b"een\x18\x01 \x01(\x04\x12&\n\x06marked\x18\x02 \x03(\x0b2\x16.mx.admin.v1.WorkerKey\x12'\n\x07removed\x18\x03 \x03"
    b'(\x0b2\x16.mx.admin.v1.WorkerKey"\x15\n\x13ListSettingsRequest">\n\x14ListSetting'
    b'sResponse\x12&\n\x08settings\x18\x01 \x03(\x0b2\x14.mx.admin.v1.Setting"5\n\x07Setting\x12\x0b\n\x03'
    b'key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\t\x12\x0e\n\x06origin\x18\x03 \x01(\t*_\n\x08Strategy\x12\x18\n\x14STRATEGY'
    b'_UNSPECIFIED\x10\x00\x12\x11\n\rSTRATEGY_PEER\x10\x01\x12\x11\n\rSTRATEGY_DISK\x10\x02\x12\x13\n\x0fSTRATEGY'
    b'_SERVER\x10\x03*\x7f\n\rTransferState\x12\x1e\n\x1aTRANSFER_STATE_UNSPECIFIED\x10\x00\x12\x1a\n\x16TR'
    b'ANSFER_STATE_RUNNING\x10\x01\x12\x17\n\x13TRANSFER_STATE_DONE\x10\x02\x12\x19\n\x15TRANSFER_STAT'
    b'E_FAILED\x10\x032\x9b\x13\n\x0cAdminService\x12\\\n\x0fGetServerStatus\x12#.mx.admin.v1.Get'
    b'ServerStatusRequest\x1a$.mx.admin.v1.GetServerStatusResponse\x12S\n\x0cAnn'
    b'ouncePeer\x12 .mx.admin.v1.AnnouncePeerRequest\x1a!.mx.admin.v1.Announ'
    b'cePeerResponse\x12J\n\tFindPeers\x12\x1d.mx.admin.v1.FindPeersRequest\x1a\x1e.mx.'
    b'admin.v1.FindPeersResponse\x12Y\n\x0eListSourceRows\x12".mx.admin.v1.ListS'
    b'ourceRowsRequest\x1a#.mx.admin.v1.ListSourceRowsResponse\x12J\n\tGetSour'
    b'ce\x12\x1d.mx.admin.v1.GetSourceRequest\x1a\x1e.mx.admin.v1.GetSourceRespons'
    b'e\x12Y\n\x0eWithdrawSource\x12".mx.admin.v1.WithdrawSourceRequest\x1a#.mx.adm'
    b'in.v1.WithdrawSourceResponse\x12Y\n\x0eReportTransfer\x12".mx.admin.v1.Rep'
    b'ortTransferRequest\x1a#.mx.admin.v1.ReportTransferResponse\x12V\n\rListT'
    b'ransfers\x12!.mx.admin.v1.ListTransfersRequest\x1a".mx.admin.v1.ListTr'
    b'ansfersResponse\x12M\n\x0bEnsureModel\x12\x1f.mx.admin.v1.EnsureModelRequest\x1a'
    b'\x1b.mx.admin.v1.EnsureProgress0\x01\x12Y\n\x0eOpenModelFiles\x12".mx.admin.v1.O'
    b'penModelFilesRequest\x1a#.mx.admin.v1.OpenModelFilesResponse\x12\\\n\x0fRen'
    b'ewModelFiles\x12#.mx.admin.v1.RenewModelFilesRequest\x1a$.mx.admin.v1.'
    b'RenewModelFilesResponse\x12\\\n\x0fCloseModelFiles\x12#.mx.admin.v1.CloseMo'
    b'delFilesRequest\x1a$.mx.admin.v1.CloseModelFilesResponse\x12M\n\nListMod'
    b'els\x12\x1e.mx.admin.v1.ListModelsRequest\x1a\x1f.mx.admin.v1.ListModelsResp'
    b'onse\x12J\n\tShowModel\x12\x1d.mx.admin.v1.ShowModelRequest\x1a\x1e.mx.admin.v1.S'
    b'howModelResponse\x12P\n\x0bRemoveModel\x12\x1f.mx.admin.v1.RemoveModelRequest'
    b'\x1a\x1e.mx.admin.v1.RemoveModelUpdate0\x01\x12P\n\x0bPlanRemoval\x12\x1f.mx.admin.v1.'
    b'PlanRemovalRequest\x1a .mx.admin.v1.PlanRemovalResponse\x12G\n\x08PinModel'
    b'\x12\x1c.mx.admin.v1.PinModelRequest\x1a\x1d.mx.admin.v1.PinModelResponse\x12S\n'
    b'\x0cPlanEviction\x12 .mx.admin.v1.PlanEvictionRequest\x1a!.mx.admin.v1.Pl'
    b'anEvictionResponse\x12P\n\x0bRunEviction\x12\x1f.mx.admin.v1.RunEvictionReque'
    b'st\x1a\x1e.mx.admin.v1.RunEvictionUpdate0\x01\x12M\n\x0cVerifyModels\x12 .mx.admin.'
    b'v1.VerifyModelsRequest\x1a\x19.mx.admin.v1.VerifyUpdate0\x01\x12V\n\rGetCacheS'
    b'tats\x12!.mx.admin.v1.GetCacheStatsRequest\x1a".mx.admin.v1.GetCacheSt'
    b'atsResponse\x12>\n\x05Watch\x12\x19.mx.admin.v1.WatchRequest\x1a\x18.mx.admin.v1.Wa'
    b'tchUpdate0\x01\x12M\n\nListEvents\x12\x1e.mx.admin.v1.ListEventsRequest\x1a\x1f.mx.a'
    b'dmin.v1.ListEventsResponse\x12_\n\x10GetBackendStates\x12$.mx.admin.v1.Get'
    b'BackendStatesRequest\x1a%.mx.admin.v1.GetBackendStatesResponse\x12S\n\x0cG'
    b'etRawSource\x12 .mx.admin.v1.GetRawSourceRequest\x1a!.mx.admin.v1.GetR'
    b'awRecordResponse\x12Q\n\x0bGetRawModel\x12\x1f.mx.admin.v1.GetRawModelRequest'
    b'\x1a!.mx.admin.v1.GetRawRecordResponse\x12\\\n\x0fMarkSourceStale\x12#.mx.admi'
    b'n.v1.MarkSourceStaleRequest\x1a$.mx.admin.v1.MarkSourceStaleRespons'
    b'e\x12P\n\x0bReapSources\x12\x1f.mx.admin.v1.ReapSourcesRequest\x1a .mx.admin.v1.'
    b'ReapSourcesResponse\x12S\n\x0cListSettings\x12 .mx.admin.v1.ListSettingsRe'
    b'quest\x1a!.mx.admin.v1.ListSettingsResponseb\x06proto3'
)

STRATEGY_UNSPECIFIED = 0
STRATEGY_PEER = 1
STRATEGY_DISK = 2
STRATEGY_SERVER = 3

TRANSFER_STATE_UNSPECIFIED = 0
TRANSFER_STATE_RUNNING = 1
TRANSFER_STATE_DONE = 2
TRANSFER_STATE_FAILED = 3

GetServerStatusRequest = message(DESCRIPTOR, "GetServerStatusRequest")
GetServerStatusResponse = message(DESCRIPTOR, "GetServerStatusResponse")
PeerRecord = message(DESCRIPTOR, "PeerRecord")
WorkerKey = message(DESCRIPTOR, "WorkerKey")
SourceRow = message(DESCRIPTOR, "SourceRow")
AnnouncePeerRequest = message(DESCRIPTOR, "AnnouncePeerRequest")
AnnouncePeerResponse = message(DESCRIPTOR, "AnnouncePeerResponse")
FindPeersRequest = message(DESCRIPTOR, "FindPeersRequest")
FindPeersResponse = message(DESCRIPTOR, "FindPeersResponse")
ListSourceRowsRequest = message(DESCRIPTOR, "ListSourceRowsRequest")
ListSourceRowsResponse = message(DESCRIPTOR, "ListSourceRowsResponse")
GetSourceRequest = message(DESCRIPTOR, "GetSourceRequest")
GetSourceResponse = message(DESCRIPTOR, "GetSourceResponse")
SourceEntry = message(DESCRIPTOR, "SourceEntry")
PodReference = message(DESCRIPTOR, "PodReference")
WithdrawSourceRequest = message(DESCRIPTOR, "WithdrawSourceRequest")
WithdrawSourceResponse = message(DESCRIPTOR, "WithdrawSourceResponse")
TransferReport = message(DESCRIPTOR, "TransferReport")
Stage = message(DESCRIPTOR, "Stage")
SourceShare = message(DESCRIPTOR, "SourceShare")
ReportTransferRequest = message(DESCRIPTOR, "ReportTransferRequest")
ReportTransferResponse = message(DESCRIPTOR, "ReportTransferResponse")
ListTransfersRequest = message(DESCRIPTOR, "ListTransfersRequest")
ListTransfersResponse = message(DESCRIPTOR, "ListTransfersResponse")
EntryKey = message(DESCRIPTOR, "EntryKey")
EnsureModelRequest = message(DESCRIPTOR, "EnsureModelRequest")
EnsureProgress = message(DESCRIPTOR, "EnsureProgress")
OpenModelFilesRequest = message(DESCRIPTOR, "OpenModelFilesRequest")
OpenModelFilesResponse = message(DESCRIPTOR, "OpenModelFilesResponse")
ServedFile = message(DESCRIPTOR, "ServedFile")
RenewModelFilesRequest = message(DESCRIPTOR, "RenewModelFilesRequest")
RenewModelFilesResponse = message(DESCRIPTOR, "RenewModelFilesResponse")
CloseModelFilesRequest = message(DESCRIPTOR, "CloseModelFilesRequest")
CloseModelFilesResponse = message(DESCRIPTOR, "CloseModelFilesResponse")
ListModelsRequest = message(DESCRIPTOR, "ListModelsRequest")
ListModelsResponse = message(DESCRIPTOR, "ListModelsResponse")
ModelEntry = message(DESCRIPTOR, "ModelEntry")
Pin = message(DESCRIPTOR, "Pin")
RemoveModelRequest = message(DESCRIPTOR, "RemoveModelRequest")
RemoveModelUpdate = message(DESCRIPTOR, "RemoveModelUpdate")
PlanRemovalRequest = message(DESCRIPTOR, "PlanRemovalRequest")
PlanRemovalResponse = message(DESCRIPTOR, "PlanRemovalResponse")
ShowModelRequest = message(DESCRIPTOR, "ShowModelRequest")
ShowModelResponse = message(DESCRIPTOR, "ShowModelResponse")
ShownFile = message(DESCRIPTOR, "ShownFile")
ReadLease = message(DESCRIPTOR, "ReadLease")
PinModelRequest = message(DESCRIPTOR, "PinModelRequest")
PinModelResponse = message(DESCRIPTOR, "PinModelResponse")
PlanEvictionRequest = message(DESCRIPTOR, "PlanEvictionRequest")
EntryKeys = message(DESCRIPTOR, "EntryKeys")
EvictionPlan = message(DESCRIPTOR, "EvictionPlan")
Judged = message(DESCRIPTOR, "Judged")
PlanEvictionResponse = message(DESCRIPTOR, "PlanEvictionResponse")
RunEvictionRequest = message(DESCRIPTOR, "RunEvictionRequest")
RunEvictionUpdate = message(DESCRIPTOR, "RunEvictionUpdate")
EvictionStep = message(DESCRIPTOR, "EvictionStep")
EvictionRun = message(DESCRIPTOR, "EvictionRun")
VerifyModelsRequest = message(DESCRIPTOR, "VerifyModelsRequest")
VerifyUpdate = message(DESCRIPTOR, "VerifyUpdate")
VerifyProgress = message(DESCRIPTOR, "VerifyProgress")
EntryVerified = message(DESCRIPTOR, "EntryVerified")
FileFault = message(DESCRIPTOR, "FileFault")
GetCacheStatsRequest = message(DESCRIPTOR, "GetCacheStatsRequest")
GetCacheStatsResponse = message(DESCRIPTOR, "GetCacheStatsResponse")
KindStats = message(DESCRIPTOR, "KindStats")
CacheLimits = message(DESCRIPTOR, "CacheLimits")
FeedPosition = message(DESCRIPTOR, "FeedPosition")
WatchRequest = message(DESCRIPTOR, "WatchRequest")
WatchUpdate = message(DESCRIPTOR, "WatchUpdate")
FeedSnapshot = message(DESCRIPTOR, "FeedSnapshot")
FeedChanges = message(DESCRIPTOR, "FeedChanges")
FeedChange = message(DESCRIPTOR, "FeedChange")
DownloadMoved = message(DESCRIPTOR, "DownloadMoved")
Moving = message(DESCRIPTOR, "Moving")
FeedEvent = message(DESCRIPTOR, "FeedEvent")
EventField = message(DESCRIPTOR, "EventField")
ListEventsRequest = message(DESCRIPTOR, "ListEventsRequest")
ListEventsResponse = message(DESCRIPTOR, "ListEventsResponse")
GetBackendStatesRequest = message(DESCRIPTOR, "GetBackendStatesRequest")
GetBackendStatesResponse = message(DESCRIPTOR, "GetBackendStatesResponse")
BackendState = message(DESCRIPTOR, "BackendState")
Fact = message(DESCRIPTOR, "Fact")
GetRawSourceRequest = message(DESCRIPTOR, "GetRawSourceRequest")
GetRawModelRequest = message(DESCRIPTOR, "GetRawModelRequest")
GetRawRecordResponse = message(DESCRIPTOR, "GetRawRecordResponse")
MarkSourceStaleRequest = message(DESCRIPTOR, "MarkSourceStaleRequest")
MarkSourceStaleResponse = message(DESCRIPTOR, "MarkSourceStaleResponse")
ReapSourcesRequest = message(DESCRIPTOR, "ReapSourcesRequest")
ReapSourcesResponse = message(DESCRIPTOR, "ReapSourcesResponse")
ListSettingsRequest = message(DESCRIPTOR, "ListSettingsRequest")
ListSettingsResponse = message(DESCRIPTOR, "ListSettingsResponse")
Setting = message(DESCRIPTOR, "Setting")

AdminService_NAME = DESCRIPTOR.services_by_name["AdminService"].full_name
AdminServiceStub = stub_class(DESCRIPTOR, "AdminService")
AdminServiceAsyncStub = AdminServiceStub


def AdminService_handler(implementation):
    return service_handler(DESCRIPTOR, "AdminService", implementation)
