# Written by protos/generate.py from mx/admin/v1/admin.proto; do not edit.
from __future__ import annotations

import mx.wire.v1.p2p
from mx.wire.runtime import add_file, message, service_handler, stub_class

DESCRIPTOR = add_file(
    b'\n\x17mx/admin/v1/admin.proto\x12\x0bmx.admin.v1\x1a\tp2p.proto"\x18\n\x16GetServerSt'
    b'atusRequest"\xda\x02\n\x17GetServerStatusResponse\x12\x0f\n\x07version\x18\x01 \x01(\t\x12\x15\n\rstar'
    b'ted_at_ms\x18\x02 \x01(\x03\x12\r\n\x05ready\x18\x03 \x01(\x08\x12\x10\n\x08draining\x18\x04 \x01(\x08\x12\x15\n\rstore_backen'
    b'd\x18\x05 \x01(\t\x12\x10\n\x08store_ok\x18\x06 \x01(\x08\x12\x18\n\x10store_latency_ms\x18\x07 \x01(\x01\x12T\n\x11sources_b'
    b'y_status\x18\x08 \x03(\x0b29.mx.admin.v1.GetServerStatusResponse.SourcesBySt'
    b'atusEntry\x12\x0e\n\x06listen\x18\t \x01(\t\x12\x15\n\rsettings_file\x18\n \x01(\t\x1a6\n\x14SourcesBySta'
    b'tusEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\x04:\x028\x01"Z\n\nPeerRecord\x12\x10\n\x08endpoi'
    b'nt\x18\x01 \x01(\t\x12\x12\n\ngeneration\x18\x02 \x01(\t\x12\x0f\n\x07host_id\x18\x03 \x01(\t\x12\x15\n\rlayout_digest\x18\x04'
    b' \x01(\t"F\n\tWorkerKey\x12\x11\n\tsource_id\x18\x01 \x01(\t\x12\x11\n\tworker_id\x18\x02 \x01(\t\x12\x13\n\x0bworke'
    b'r_rank\x18\x03 \x01(\r"\xdb\x03\n\tSourceRow\x12#\n\x03key\x18\x01 \x01(\x0b2\x16.mx.admin.v1.WorkerKey\x12'
    b'\x12\n\nmodel_name\x18\x02 \x01(\t\x12/\n\x06status\x18\x03 \x01(\x0e2\x1f.model_express.p2p.SourceSt'
    b'atus\x12\x15\n\rupdated_at_ms\x18\x04 \x01(\x03\x12\x13\n\x0baccelerator\x18\x05 \x01(\t\x12\x1a\n\rtraining_ste'
    b'p\x18\x06 \x01(\x04H\x00\x88\x01\x01\x12\x1d\n\x10layout_signature\x18\x07 \x01(\tH\x01\x88\x01\x01\x126\n\x08topology\x18\x08 \x03(\x0b2$.'
    b'mx.admin.v1.SourceRow.TopologyEntry\x12\x18\n\x0bsource_load\x18\t \x01(\x02H\x02\x88\x01\x01\x12\x1c\n'
    b'\x14worker_grpc_endpoint\x18\n \x01(\t\x12%\n\x04peer\x18\x0b \x01(\x0b2\x17.mx.admin.v1.PeerReco'
    b'rd\x1a/\n\rTopologyEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\t:\x028\x01B\x10\n\x0e_training'
    b'_stepB\x13\n\x11_layout_signatureB\x0e\n\x0c_source_load"a\n\x13AnnouncePeerReques'
    b't\x12#\n\x03key\x18\x01 \x01(\x0b2\x16.mx.admin.v1.WorkerKey\x12%\n\x04peer\x18\x02 \x01(\x0b2\x17.mx.admin.'
    b'v1.PeerRecord"%\n\x14AnnouncePeerResponse\x12\r\n\x05known\x18\x01 \x01(\x08"\\\n\x10FindPeer'
    b'sRequest\x123\n\x08identity\x18\x01 \x01(\x0b2!.model_express.p2p.SourceIdentity\x12\x13\n'
    b'\x0bworker_rank\x18\x02 \x01(\r"L\n\x11FindPeersResponse\x12\x11\n\tsource_id\x18\x01 \x01(\t\x12$\n\x04ro'
    b'ws\x18\x02 \x03(\x0b2\x16.mx.admin.v1.SourceRow"\x80\x03\n\x15ListSourceRowsRequest\x12\x16\n\tso'
    b'urce_id\x18\x01 \x01(\tH\x00\x88\x01\x01\x123\n\x08identity\x18\x02 \x01(\x0b2!.model_express.p2p.SourceI'
    b'dentity\x124\n\x06status\x18\x03 \x01(\x0e2\x1f.model_express.p2p.SourceStatusH\x01\x88\x01\x01\x12\x17\n'
    b'\nmodel_name\x18\x04 \x01(\tH\x02\x88\x01\x01\x12\x18\n\x0bworker_rank\x18\x05 \x01(\rH\x03\x88\x01\x01\x12\x1e\n\x11min_training'
    b'_step\x18\x06 \x01(\x04H\x04\x88\x01\x01\x12\x1e\n\x11min_updated_at_ms\x18\x07 \x01(\x03H\x05\x88\x01\x01\x12\r\n\x05limit\x18\x08 \x01(\rB'
    b'\x0c\n\n_source_idB\t\n\x07_statusB\r\n\x0b_model_nameB\x0e\n\x0c_worker_rankB\x14\n\x12_min_'
    b'training_stepB\x14\n\x12_min_updated_at_ms">\n\x16ListSourceRowsResponse\x12$\n'
    b'\x04rows\x18\x01 \x03(\x0b2\x16.mx.admin.v1.SourceRow"8\n\x10GetSourceRequest\x12\x11\n\tsourc'
    b'e_id\x18\x01 \x01(\t\x12\x11\n\tworker_id\x18\x02 \x01(\t"<\n\x11GetSourceResponse\x12\'\n\x05entry\x18\x01 \x01('
    b'\x0b2\x18.mx.admin.v1.SourceEntry"\x94\x02\n\x0bSourceEntry\x12\x11\n\tsource_id\x18\x01 \x01(\t\x12\x11'
    b'\n\tworker_id\x18\x02 \x01(\t\x123\n\x08identity\x18\x03 \x01(\x0b2!.model_express.p2p.SourceId'
    b'entity\x121\n\x06worker\x18\x04 \x01(\x0b2!.model_express.p2p.WorkerMetadata\x12\x18\n\x0bsou'
    b'rce_load\x18\x05 \x01(\x02H\x00\x88\x01\x01\x12%\n\x04peer\x18\x06 \x01(\x0b2\x17.mx.admin.v1.PeerRecord\x12&\n\x03po'
    b'd\x18\x07 \x01(\x0b2\x19.mx.admin.v1.PodReferenceB\x0e\n\x0c_source_load"<\n\x0cPodReferen'
    b'ce\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0b\n\x03uid\x18\x02 \x01(\t\x12\x11\n\tnamespace\x18\x03 \x01(\t"<\n\x15WithdrawSour'
    b'ceRequest\x12#\n\x03key\x18\x01 \x01(\x0b2\x16.mx.admin.v1.WorkerKey")\n\x16WithdrawSource'
    b'Response\x12\x0f\n\x07removed\x18\x01 \x01(\x08"\xdc\x03\n\x0eTransferReport\x12\x13\n\x0btransfer_id\x18\x01 \x01('
    b'\t\x12\x12\n\nmodel_name\x18\x02 \x01(\t\x12\x11\n\tsource_id\x18\x03 \x01(\t\x12\x11\n\tworker_id\x18\x04 \x01(\t\x12\x13\n\x0bw'
    b"orker_rank\x18\x05 \x01(\r\x12'\n\x08strategy\x18\x06 \x01(\x0e2\x15.mx.admin.v1.Strategy\x12)\n\x05sta"
    b'te\x18\x07 \x01(\x0e2\x1a.mx.admin.v1.TransferState\x12\x13\n\x0bbytes_total\x18\x08 \x01(\x04\x12\x12\n\nbyt'
    b'es_done\x18\t \x01(\x04\x12\x10\n\x08verified\x18\n \x01(\x08\x12\x15\n\rstarted_at_ms\x18\x0b \x01(\x03\x12\x0f\n\x07second'
    b's\x18\x0c \x01(\x01\x12"\n\x06stages\x18\r \x03(\x0b2\x12.mx.admin.v1.Stage\x12)\n\x07sources\x18\x0e \x03(\x0b2\x18.m'
    b'x.admin.v1.SourceShare\x12\x10\n\x08segments\x18\x0f \x01(\x04\x12\x17\n\x0fsegments_reread\x18\x10 \x01('
    b'\x04\x12\x0f\n\x07tensors\x18\x11 \x01(\x04\x12\x14\n\x0cverify_cpu_s\x18\x12 \x01(\x01\x12\x0e\n\x06reason\x18\x13 \x01(\t"&\n\x05Stag'
    b'e\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0f\n\x07seconds\x18\x02 \x01(\x01"\x86\x01\n\x0bSourceShare\x12\x11\n\tworker_id\x18\x01 '
    b'\x01(\t\x12\x10\n\x08endpoint\x18\x02 \x01(\t\x12\r\n\x05bytes\x18\x03 \x01(\x04\x12\x0e\n\x06gbit_s\x18\x04 \x01(\x01\x12\x10\n\x08segments'
    b'\x18\x05 \x01(\x04\x12\x10\n\x08verified\x18\x06 \x01(\x08\x12\x0f\n\x07dropped\x18\x07 \x01(\t"D\n\x15ReportTransferReque'
    b'st\x12+\n\x06report\x18\x01 \x01(\x0b2\x1b.mx.admin.v1.TransferReport"\x18\n\x16ReportTransfe'
    b'rResponse"%\n\x14ListTransfersRequest\x12\r\n\x05limit\x18\x01 \x01(\r"E\n\x15ListTransfer'
    b'sResponse\x12,\n\x07reports\x18\x01 \x03(\x0b2\x1b.mx.admin.v1.TransferReport"K\n\x08Entry'
    b'Key\x12\x10\n\x08provider\x18\x01 \x01(\t\x12\x0c\n\x04name\x18\x02 \x01(\t\x12\x0e\n\x06commit\x18\x03 \x01(\t\x12\x0f\n\x07weights\x18\x04'
    b' \x01(\x08"\x7f\n\x12EnsureModelRequest\x12\x10\n\x08provider\x18\x01 \x01(\t\x12\x0c\n\x04name\x18\x02 \x01(\t\x12\x15\n\x08re'
    b'vision\x18\x03 \x01(\tH\x00\x88\x01\x01\x12\x16\n\x0eignore_weights\x18\x04 \x01(\x08\x12\r\n\x05force\x18\x05 \x01(\x08B\x0b\n\t_rev'
    b'ision"\xef\x01\n\x0eEnsureProgress\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\x0e\n\x06'
    b'status\x18\x02 \x01(\t\x12\x0f\n\x07message\x18\x03 \x01(\t\x12\x12\n\nbytes_done\x18\x04 \x01(\x04\x12\x13\n\x0bbytes_total'
    b'\x18\x05 \x01(\x04\x12\x12\n\nfiles_done\x18\x06 \x01(\x04\x12\x13\n\x0bfiles_total\x18\x07 \x01(\x04\x12\x11\n\x04rate\x18\x08 \x01(\x01H\x00\x88'
    b'\x01\x01\x12\x12\n\x05eta_s\x18\t \x01(\x01H\x01\x88\x01\x01\x12\x0c\n\x04code\x18\n \x01(\tB\x07\n\x05_rateB\x08\n\x06_eta_s"K\n\x15OpenM'
    b'odelFilesRequest\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\x0e\n\x06holder\x18\x02'
    b' \x01(\t"\xa6\x01\n\x16OpenModelFilesResponse\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.Entry'
    b'Key\x12&\n\x05files\x18\x02 \x03(\x0b2\x17.mx.admin.v1.ServedFile\x12\x0e\n\x06ticket\x18\x03 \x01(\t\x12\x0e\n\x06l'
    b'ife_s\x18\x04 \x01(\x01\x12\x11\n\thttp_port\x18\x05 \x01(\r\x12\r\n\x05hosts\x18\x06 \x03(\t"F\n\nServedFile\x12\x0c\n\x04p'
    b'ath\x18\x01 \x01(\t\x12\x0c\n\x04size\x18\x02 \x01(\x04\x12\x0e\n\x06digest\x18\x03 \x01(\t\x12\x0c\n\x04xxh3\x18\x04 \x01(\t"(\n\x16RenewMo'
    b'delFilesRequest\x12\x0e\n\x06ticket\x18\x01 \x01(\t"\x19\n\x17RenewModelFilesResponse"(\n\x16Cl'
    b'oseModelFilesRequest\x12\x0e\n\x06ticket\x18\x01 \x01(\t"\x19\n\x17CloseModelFilesResponse"'
    b'3\n\x11ListModelsRequest\x12\x10\n\x08provider\x18\x01 \x01(\t\x12\x0c\n\x04name\x18\x02 \x01(\t"\xba\x01\n\x12ListMod'
    b'elsResponse\x12(\n\x07entries\x18\x01 \x03(\x0b2\x17.mx.admin.v1.ModelEntry\x12\x12\n\nused_by'
    b'tes\x18\x02 \x01(\x04\x12\x12\n\nfree_bytes\x18\x03 \x01(\x04\x12\x12\n\ndisk_bytes\x18\x04 \x01(\x04\x12\x1b\n\x0emax_size_by'
    b'tes\x18\x05 \x01(\x04H\x00\x88\x01\x01\x12\x0e\n\x06now_ms\x18\x06 \x01(\x03B\x11\n\x0f_max_size_bytes"\xd0\x02\n\nModelEntry'
    b'\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\x0e\n\x06status\x18\x02 \x01(\t\x12\x15\n\rcreated_'
    b'at_ms\x18\x03 \x01(\x03\x12\x17\n\x0flast_used_at_ms\x18\x04 \x01(\x03\x12\x0f\n\x07message\x18\x05 \x01(\t\x12\x13\n\x0bbytes_t'
    b'otal\x18\x06 \x01(\x04\x12\x12\n\nbytes_done\x18\x07 \x01(\x04\x12\r\n\x05files\x18\x08 \x01(\x04\x12\x12\n\ndisk_bytes\x18\t \x01('
    b'\x04\x12\x11\n\town_bytes\x18\n \x01(\x04\x12\r\n\x05owner\x18\x0b \x01(\t\x12\x1d\n\x03pin\x18\x0c \x01(\x0b2\x10.mx.admin.v1.P'
    b'in\x12\x0f\n\x07readers\x18\r \x03(\t\x12\x1a\n\x12requested_revision\x18\x0e \x01(\t\x12\x13\n\x0bretry_at_ms\x18\x0f'
    b' \x01(\x03"9\n\x03Pin\x12\x15\n\x08until_ms\x18\x01 \x01(\x03H\x00\x88\x01\x01\x12\x0e\n\x06reason\x18\x02 \x01(\tB\x0b\n\t_until_ms"'
    b'c\n\x12RemoveModelRequest\x12\x10\n\x08provider\x18\x01 \x01(\t\x12\x0c\n\x04name\x18\x02 \x01(\t\x12\x13\n\x06commit\x18'
    b'\x03 \x01(\tH\x00\x88\x01\x01\x12\r\n\x05force\x18\x04 \x01(\x08B\t\n\x07_commit"^\n\x11RemoveModelUpdate\x12&\n\x07rem'
    b'oved\x18\x01 \x03(\x0b2\x15.mx.admin.v1.EntryKey\x12\x13\n\x0bbytes_freed\x18\x02 \x01(\x04\x12\x0c\n\x04done\x18\x03'
    b' \x01(\x08"c\n\x12PlanRemovalRequest\x12\x10\n\x08provider\x18\x01 \x01(\t\x12\x0c\n\x04name\x18\x02 \x01(\t\x12\x13\n\x06co'
    b'mmit\x18\x03 \x01(\tH\x00\x88\x01\x01\x12\r\n\x05force\x18\x04 \x01(\x08B\t\n\x07_commit">\n\x13PlanRemovalResponse'
    b'\x12\'\n\x04plan\x18\x01 \x01(\x0b2\x19.mx.admin.v1.EvictionPlan"6\n\x10ShowModelRequest\x12"\n'
    b'\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey"\xb0\x02\n\x11ShowModelResponse\x12&\n\x05entry'
    b'\x18\x01 \x01(\x0b2\x17.mx.admin.v1.ModelEntry\x12\x0c\n\x04root\x18\x02 \x01(\t\x12\x17\n\x0fcompleted_at_ms'
    b'\x18\x03 \x01(\x03\x12%\n\x05files\x18\x04 \x03(\x0b2\x16.mx.admin.v1.ShownFile\x12*\n\x0bshares_with\x18\x05 \x03'
    b'(\x0b2\x15.mx.admin.v1.EntryKey\x12\r\n\x05owner\x18\x06 \x01(\t\x12\x1b\n\x13claim_expires_at_ms\x18'
    b'\x07 \x01(\x03\x12\x13\n\x0bclaim_token\x18\x08 \x01(\x04\x12&\n\x06leases\x18\t \x03(\x0b2\x16.mx.admin.v1.ReadLea'
    b'se\x12\x10\n\x08attempts\x18\n \x01(\r"c\n\tShownFile\x12\x0c\n\x04path\x18\x01 \x01(\t\x12\x0c\n\x04size\x18\x02 \x01(\x04\x12\x0e\n'
    b'\x06digest\x18\x03 \x01(\t\x12\x0c\n\x04xxh3\x18\x04 \x01(\t\x12\r\n\x05block\x18\x05 \x01(\t\x12\r\n\x05users\x18\x06 \x01(\r"D\n\tRea'
    b'dLease\x12\x10\n\x08lease_id\x18\x01 \x01(\t\x12\x0e\n\x06holder\x18\x02 \x01(\t\x12\x15\n\rexpires_at_ms\x18\x03 \x01(\x03"'
    b'T\n\x0fPinModelRequest\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\x1d\n\x03pin\x18\x02 '
    b'\x01(\x0b2\x10.mx.admin.v1.Pin"\x12\n\x10PinModelResponse"\x8b\x01\n\x13PlanEvictionReques'
    b't\x12\x15\n\x08to_bytes\x18\x01 \x01(\x04H\x00\x88\x01\x01\x12\x19\n\x0cunused_for_s\x18\x02 \x01(\x01H\x01\x88\x01\x01\x12$\n\x04keys\x18\x03 \x01('
    b'\x0b2\x16.mx.admin.v1.EntryKeysB\x0b\n\t_to_bytesB\x0f\n\r_unused_for_s"0\n\tEntry'
    b'Keys\x12#\n\x04keys\x18\x01 \x03(\x0b2\x15.mx.admin.v1.EntryKey"\x94\x01\n\x0cEvictionPlan\x12$\n\x07vi'
    b'ctims\x18\x01 \x03(\x0b2\x13.mx.admin.v1.Judged\x12&\n\tsurvivors\x18\x02 \x03(\x0b2\x13.mx.admin.v'
    b'1.Judged\x12\x13\n\x0bbytes_freed\x18\x03 \x01(\x04\x12\x14\n\x0ctarget_bytes\x18\x04 \x01(\x04\x12\x0b\n\x03met\x18\x05 \x01(\x08'
    b'"K\n\x06Judged\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\r\n\x05bytes\x18\x02 \x01(\x04\x12\x0e\n'
    b'\x06reason\x18\x03 \x01(\t"?\n\x14PlanEvictionResponse\x12\'\n\x04plan\x18\x01 \x01(\x0b2\x19.mx.admin.v'
    b'1.EvictionPlan"=\n\x12RunEvictionRequest\x12\'\n\x04plan\x18\x01 \x01(\x0b2\x19.mx.admin.v1'
    b'.EvictionPlan"c\n\x11RunEvictionUpdate\x12\'\n\x04step\x18\x01 \x01(\x0b2\x19.mx.admin.v1.E'
    b'victionStep\x12%\n\x03run\x18\x02 \x01(\x0b2\x18.mx.admin.v1.EvictionRun"n\n\x0cEvictionSt'
    b'ep\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\r\n\x05bytes\x18\x02 \x01(\x04\x12\x0e\n\x06stayed\x18'
    b'\x03 \x01(\t\x12\x0c\n\x04done\x18\x04 \x01(\x04\x12\r\n\x05total\x18\x05 \x01(\x04"\xc0\x01\n\x0bEvictionRun\x12\x0e\n\x06run_id\x18\x01 \x01'
    b"(\t\x12\x0f\n\x07trigger\x18\x02 \x01(\t\x12'\n\x04plan\x18\x03 \x01(\x0b2\x19.mx.admin.v1.EvictionPlan\x12\x13\n\x0b"
    b'bytes_freed\x18\x04 \x01(\x04\x12\x15\n\rstarted_at_ms\x18\x05 \x01(\x03\x12\x16\n\x0efinished_at_ms\x18\x06 \x01(\x03'
    b'\x12#\n\x06stayed\x18\x07 \x03(\x0b2\x13.mx.admin.v1.Judged"M\n\x13VerifyModelsRequest\x12$\n\x04'
    b'keys\x18\x01 \x01(\x0b2\x16.mx.admin.v1.EntryKeys\x12\x10\n\x08on_fault\x18\x02 \x01(\t"h\n\x0cVerifyUp'
    b'date\x12-\n\x08progress\x18\x01 \x01(\x0b2\x1b.mx.admin.v1.VerifyProgress\x12)\n\x05entry\x18\x02 \x01'
    b'(\x0b2\x1a.mx.admin.v1.EntryVerified"\xd2\x01\n\x0eVerifyProgress\x12"\n\x03key\x18\x01 \x01(\x0b2\x15'
    b'.mx.admin.v1.EntryKey\x12\x12\n\nbytes_done\x18\x02 \x01(\x04\x12\x13\n\x0bbytes_total\x18\x03 \x01(\x04\x12\x14'
    b'\n\x0centries_done\x18\x04 \x01(\x04\x12\x15\n\rentries_total\x18\x05 \x01(\x04\x12\x11\n\x04rate\x18\x06 \x01(\x01H\x00\x88\x01\x01\x12\x12'
    b'\n\x05eta_s\x18\x07 \x01(\x01H\x01\x88\x01\x01\x12\x0c\n\x04note\x18\x08 \x01(\tB\x07\n\x05_rateB\x08\n\x06_eta_s"\xd9\x01\n\rEntryVer'
    b'ified\x12"\n\x03key\x18\x01 \x01(\x0b2\x15.mx.admin.v1.EntryKey\x12\x0f\n\x07outcome\x18\x02 \x01(\t\x12\r\n\x05fi'
    b'les\x18\x03 \x01(\x04\x12\x12\n\nbytes_read\x18\x04 \x01(\x04\x12&\n\x06faults\x18\x05 \x03(\x0b2\x16.mx.admin.v1.File'
    b'Fault\x12\x0e\n\x06extras\x18\x06 \x03(\t\x12\x0e\n\x06detail\x18\x07 \x01(\t\x12(\n\twithdrawn\x18\x08 \x03(\x0b2\x15.mx.ad'
    b'min.v1.EntryKey"7\n\tFileFault\x12\x0c\n\x04path\x18\x01 \x01(\t\x12\x0c\n\x04kind\x18\x02 \x01(\t\x12\x0e\n\x06deta'
    b'il\x18\x03 \x01(\t"$\n\x14GetCacheStatsRequest\x12\x0c\n\x04runs\x18\x01 \x01(\r"\x9a\x02\n\x15GetCacheStats'
    b'Response\x12\x0c\n\x04root\x18\x01 \x01(\t\x12%\n\x05kinds\x18\x02 \x03(\x0b2\x16.mx.admin.v1.KindStats\x12\x12\n'
    b'\nused_bytes\x18\x03 \x01(\x04\x12\x12\n\nfree_bytes\x18\x04 \x01(\x04\x12\x12\n\ndisk_bytes\x18\x05 \x01(\x04\x12(\n\x06lim'
    b'its\x18\x06 \x01(\x0b2\x18.mx.admin.v1.CacheLimits\x12\x1b\n\x0enext_run_at_ms\x18\x07 \x01(\x03H\x00\x88\x01\x01'
    b'\x12&\n\x04runs\x18\x08 \x03(\x0b2\x18.mx.admin.v1.EvictionRun\x12\x0e\n\x06now_ms\x18\t \x01(\x03B\x11\n\x0f_nex'
    b't_run_at_ms"b\n\tKindStats\x12\x0c\n\x04kind\x18\x01 \x01(\t\x12\r\n\x05total\x18\x02 \x01(\x04\x12\x0e\n\x06active\x18'
    b'\x03 \x01(\x04\x12\r\n\x05bytes\x18\x04 \x01(\x04\x12\x19\n\x11reclaimable_bytes\x18\x05 \x01(\x04"\xa2\x02\n\x0bCacheLimits\x12'
    b'\x0f\n\x07enabled\x18\x01 \x01(\x08\x12\x1b\n\x0emax_size_bytes\x18\x02 \x01(\x04H\x00\x88\x01\x01\x12!\n\x14min_free_space_'
    b'bytes\x18\x03 \x01(\x04H\x01\x88\x01\x01\x12\x17\n\nmax_models\x18\x04 \x01(\x04H\x02\x88\x01\x01\x12\x1f\n\x12unused_threshold_s\x18'
    b'\x05 \x01(\x01H\x03\x88\x01\x01\x12\x12\n\nhigh_water\x18\x06 \x01(\x01\x12\x11\n\tlow_water\x18\x07 \x01(\x01\x12\x0f\n\x07grace_s\x18\x08 \x01'
    b'(\x01B\x11\n\x0f_max_size_bytesB\x17\n\x15_min_free_space_bytesB\r\n\x0b_max_modelsB\x15\n'
    b'\x13_unused_threshold_s*_\n\x08Strategy\x12\x18\n\x14STRATEGY_UNSPECIFIED\x10\x00\x12\x11\n\rST'
    b'RATEGY_PEER\x10\x01\x12\x11\n\rSTRATEGY_DISK\x10\x02\x12\x13\n\x0fSTRATEGY_SERVER\x10\x03*\x7f\n\rTransfe'
    b'rState\x12\x1e\n\x1aTRANSFER_STATE_UNSPECIFIED\x10\x00\x12\x1a\n\x16TRANSFER_STATE_RUNNING'
    b'\x10\x01\x12\x17\n\x13TRANSFER_STATE_DONE\x10\x02\x12\x19\n\x15TRANSFER_STATE_FAILED\x10\x032\xfe\r\n\x0cAdmin'
    b'Service\x12\\\n\x0fGetServerStatus\x12#.mx.admin.v1.GetServerStatusRequest\x1a'
    b'$.mx.admin.v1.GetServerStatusResponse\x12S\n\x0cAnnouncePeer\x12 .mx.admin'
    b'.v1.AnnouncePeerRequest\x1a!.mx.admin.v1.AnnouncePeerResponse\x12J\n\tFi'
    b'ndPeers\x12\x1d.mx.admin.v1.FindPeersRequest\x1a\x1e.mx.admin.v1.FindPeersRe'
    b'sponse\x12Y\n\x0eListSourceRows\x12".mx.admin.v1.ListSourceRowsRequest\x1a#.m'
    b'x.admin.v1.ListSourceRowsResponse\x12J\n\tGetSource\x12\x1d.mx.admin.v1.Get'
    b'SourceRequest\x1a\x1e.mx.admin.v1.GetSourceResponse\x12Y\n\x0eWithdrawSource\x12'
    b'".mx.admin.v1.WithdrawSourceRequest\x1a#.mx.admin.v1.WithdrawSource'
    b'Response\x12Y\n\x0eReportTransfer\x12".mx.admin.v1.ReportTransferRequest\x1a#'
    b'.mx.admin.v1.ReportTransferResponse\x12V\n\rListTransfers\x12!.mx.admin.'
    b'v1.ListTransfersRequest\x1a".mx.admin.v1.ListTransfersResponse\x12M\n\x0bE'
    b'nsureModel\x12\x1f.mx.admin.v1.EnsureModelRequest\x1a\x1b.mx.admin.v1.Ensure'
    b'Progress0\x01\x12Y\n\x0eOpenModelFiles\x12".mx.admin.v1.OpenModelFilesRequest'
    b'\x1a#.mx.admin.v1.OpenModelFilesResponse\x12\\\n\x0fRenewModelFiles\x12#.mx.ad'
    b'min.v1.RenewModelFilesRequest\x1a$.mx.admin.v1.RenewModelFilesRespo'
    b'nse\x12\\\n\x0fCloseModelFiles\x12#.mx.admin.v1.CloseModelFilesRequest\x1a$.mx'
    b'.admin.v1.CloseModelFilesResponse\x12M\n\nListModels\x12\x1e.mx.admin.v1.Li'
    b'stModelsRequest\x1a\x1f.mx.admin.v1.ListModelsResponse\x12J\n\tShowModel\x12\x1d.'
    b'mx.admin.v1.ShowModelRequest\x1a\x1e.mx.admin.v1.ShowModelResponse\x12P\n\x0b'
    b'RemoveModel\x12\x1f.mx.admin.v1.RemoveModelRequest\x1a\x1e.mx.admin.v1.Remov'
    b'eModelUpdate0\x01\x12P\n\x0bPlanRemoval\x12\x1f.mx.admin.v1.PlanRemovalRequest\x1a '
    b'.mx.admin.v1.PlanRemovalResponse\x12G\n\x08PinModel\x12\x1c.mx.admin.v1.PinMo'
    b'delRequest\x1a\x1d.mx.admin.v1.PinModelResponse\x12S\n\x0cPlanEviction\x12 .mx.a'
    b'dmin.v1.PlanEvictionRequest\x1a!.mx.admin.v1.PlanEvictionResponse\x12P'
    b'\n\x0bRunEviction\x12\x1f.mx.admin.v1.RunEvictionRequest\x1a\x1e.mx.admin.v1.Run'
    b'EvictionUpdate0\x01\x12M\n\x0cVerifyModels\x12 .mx.admin.v1.VerifyModelsReque'
    b'st\x1a\x19.mx.admin.v1.VerifyUpdate0\x01\x12V\n\rGetCacheStats\x12!.mx.admin.v1.G'
    b'etCacheStatsRequest\x1a".mx.admin.v1.GetCacheStatsResponseb\x06proto3'
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

AdminService_NAME = DESCRIPTOR.services_by_name["AdminService"].full_name
AdminServiceStub = stub_class(DESCRIPTOR, "AdminService")
AdminServiceAsyncStub = AdminServiceStub


def AdminService_handler(implementation):
    return service_handler(DESCRIPTOR, "AdminService", implementation)
