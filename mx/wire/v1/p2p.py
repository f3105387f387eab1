# Written by protos/generate.py from p2p.proto; do not edit.
from __future__ import annotations

from mx.wire.runtime import add_file, message, service_handler, stub_class

DESCRIPTOR = add_file(
    b'\n\tp2p.proto\x12\x11model_express.p2p"\xe7\x04\n\x0eSourceIdentity\x12\x12\n\nmx_version\x18'
    b'\x01 \x01(\t\x127\n\x0emx_source_type\x18\x02 \x01(\x0e2\x1f.model_express.p2p.MxSourceType\x12\x12'
    b'\n\nmodel_name\x18\x03 \x01(\t\x12>\n\x11backend_framework\x18\x04 \x01(\x0e2#.model_express.p2'
    b'p.BackendFramework\x12\x1c\n\x14tensor_parallel_size\x18\x05 \x01(\r\x12\x1e\n\x16pipeline_par'
    b'allel_size\x18\x06 \x01(\r\x12\x1c\n\x14expert_parallel_size\x18\x07 \x01(\r\x12\r\n\x05dtype\x18\x08 \x01(\t\x12\x14\n'
    b'\x0cquantization\x18\t \x01(\t\x12P\n\x10extra_parameters\x18\n \x03(\x0b26.model_express.p2'
    b'p.SourceIdentity.ExtraParametersEntry\x12\x10\n\x08revision\x18\x0b \x01(\t\x12!\n\x19backe'
    b'nd_framework_version\x18\x0c \x01(\t\x12\x15\n\rtorch_version\x18\r \x01(\t\x12\x14\n\x0ccuda_versio'
    b'n\x18\x0e \x01(\t\x12\x16\n\x0etriton_version\x18\x0f \x01(\t\x12\x10\n\x08gpu_arch\x18\x10 \x01(\t\x12\x1d\n\x15compile_con'
    b'fig_digest\x18\x11 \x01(\t\x1a6\n\x14ExtraParametersEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02'
    b' \x01(\t:\x028\x01"^\n\x10TensorDescriptor\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0c\n\x04addr\x18\x02 \x01(\x04\x12\x0c\n\x04size'
    b'\x18\x03 \x01(\x04\x12\x11\n\tdevice_id\x18\x04 \x01(\r\x12\r\n\x05dtype\x18\x05 \x01(\t"}\n\x16ArtifactSourceMetada'
    b'ta\x12\x13\n\x0bartifact_id\x18\x01 \x01(\t\x12\x12\n\ntotal_size\x18\x02 \x01(\x04\x12\x12\n\nfile_count\x18\x03 \x01(\r\x12'
    b'\x13\n\x0bchunk_count\x18\x04 \x01(\r\x12\x11\n\tnode_rank\x18\x05 \x01(\r"L\n\x14TensorSourceMetadata\x12'
    b'4\n\x07tensors\x18\x01 \x03(\x0b2#.model_express.p2p.TensorDescriptor"\xeb\x01\n\x10Artifa'
    b'ctManifest\x12\x18\n\x10manifest_version\x18\x01 \x01(\r\x127\n\x0emx_source_type\x18\x02 \x01(\x0e2\x1f.m'
    b'odel_express.p2p.MxSourceType\x12\x12\n\nchunk_size\x18\x03 \x01(\x04\x126\n\x05files\x18\x04 \x03(\x0b'
    b"2'.model_express.p2p.ArtifactManifestFile\x128\n\x06chunks\x18\x05 \x03(\x0b2(.mode"
    b'l_express.p2p.ArtifactManifestChunk"X\n\x14ArtifactManifestFile\x12\x12\n\nf'
    b'ile_index\x18\x01 \x01(\r\x12\x0c\n\x04path\x18\x02 \x01(\t\x12\x0c\n\x04size\x18\x03 \x01(\x04\x12\x10\n\x08checksum\x18\x04 \x01(\t"w\n'
    b'\x15ArtifactManifestChunk\x12\x13\n\x0bchunk_index\x18\x01 \x01(\r\x12\x12\n\nfile_index\x18\x02 \x01(\r\x12'
    b'\x13\n\x0bfile_offset\x18\x03 \x01(\x04\x12\x0e\n\x06length\x18\x04 \x01(\x04\x12\x10\n\x08checksum\x18\x05 \x01(\t"\xe7\x04\n\x0eWorke'
    b'rMetadata\x12\x13\n\x0bworker_rank\x18\x01 \x01(\r\x12\x17\n\rnixl_metadata\x18\x02 \x01(\x0cH\x00\x12$\n\x1atrans'
    b'fer_engine_session_id\x18\n \x01(\tH\x00\x128\n\x07tensors\x18\x03 \x03(\x0b2#.model_express.p'
    b'2p.TensorDescriptorB\x02\x18\x01\x12/\n\x06status\x18\x04 \x01(\x0e2\x1f.model_express.p2p.Sour'
    b'ceStatus\x12\x12\n\nupdated_at\x18\x05 \x01(\x03\x12\x19\n\x11metadata_endpoint\x18\x06 \x01(\t\x12\x12\n\nagent'
    b'_name\x18\x07 \x01(\t\x12\x1c\n\x14worker_grpc_endpoint\x18\x08 \x01(\t\x12\x13\n\x0baccelerator\x18\t \x01(\t\x12A'
    b'\n\x08topology\x18\x0b \x03(\x0b2/.model_express.p2p.WorkerMetadata.TopologyEntr'
    b"y\x12@\n\rtensor_source\x18\x14 \x01(\x0b2'.model_express.p2p.TensorSourceMetadat"
    b'aH\x01\x12D\n\x0fartifact_source\x18\x15 \x01(\x0b2).model_express.p2p.ArtifactSourceM'
    b'etadataH\x01\x1a/\n\rTopologyEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\t:\x028\x01B\x12\n\x10ba'
    b'ckend_metadataB\x10\n\x0esource_payload"V\n\x18GetTensorManifestRequest\x12\x14\n\x0c'
    b'mx_source_id\x18\x01 \x01(\t\x12\x16\n\tworker_id\x18\x02 \x01(\tH\x00\x88\x01\x01B\x0c\n\n_worker_id"\xe6\x01\n\x19Get'
    b'TensorManifestResponse\x124\n\x07tensors\x18\x01 \x03(\x0b2#.model_express.p2p.Tens'
    b'orDescriptor\x12\x14\n\x0cmx_source_id\x18\x02 \x01(\t\x12\x19\n\x11metadata_endpoint\x18\x03 \x01(\t\x12\x12\n'
    b'\nagent_name\x18\x04 \x01(\t\x12\x13\n\x0bworker_rank\x18\x05 \x01(\r\x12\x13\n\x0baccelerator\x18\x06 \x01(\t\x12\x16\n\tw'
    b'orker_id\x18\x07 \x01(\tH\x00\x88\x01\x01B\x0c\n\n_worker_id"V\n\x18PrepareTensorReadRequest\x12\x14\n'
    b'\x0cmx_source_id\x18\x01 \x01(\t\x12\x16\n\tworker_id\x18\x02 \x01(\tH\x00\x88\x01\x01B\x0c\n\n_worker_id"m\n\x19Pre'
    b'pareTensorReadResponse\x12\x10\n\x08lease_id\x18\x01 \x01(\t\x12>\n\x08manifest\x18\x02 \x01(\x0b2,.mod'
    b'el_express.p2p.GetTensorManifestResponse"h\n\x18ReleaseTensorReadReq'
    b'uest\x12\x14\n\x0cmx_source_id\x18\x01 \x01(\t\x12\x16\n\tworker_id\x18\x02 \x01(\tH\x00\x88\x01\x01\x12\x10\n\x08lease_id\x18\x03'
    b' \x01(\tB\x0c\n\n_worker_id"\x1b\n\x19ReleaseTensorReadResponse"M\n GetArtifactMa'
    b'nifestHeaderRequest\x12\x14\n\x0cmx_source_id\x18\x01 \x01(\t\x12\x13\n\x0bartifact_id\x18\x02 \x01(\t"\xee'
    b'\x02\n!GetArtifactManifestHeaderResponse\x12\x14\n\x0cmx_source_id\x18\x01 \x01(\t\x12\x13\n\x0bar'
    b'tifact_id\x18\x02 \x01(\t\x12\x18\n\x10manifest_version\x18\x03 \x01(\r\x127\n\x0emx_source_type\x18\x04 \x01('
    b'\x0e2\x1f.model_express.p2p.MxSourceType\x12\x12\n\ntotal_size\x18\x05 \x01(\x04\x12\x12\n\nfile_c'
    b'ount\x18\x06 \x01(\r\x12\x13\n\x0bchunk_count\x18\x07 \x01(\r\x12\x12\n\nchunk_size\x18\x08 \x01(\x04\x12\x19\n\x11metadata_'
    b'endpoint\x18\t \x01(\t\x12\x12\n\nagent_name\x18\n \x01(\t\x12\x13\n\x0bworker_rank\x18\x0b \x01(\r\x126\n\x05files'
    b'\x18\x0c \x03(\x0b2\'.model_express.p2p.ArtifactManifestFile"|\n GetArtifactMa'
    b'nifestChunksRequest\x12\x14\n\x0cmx_source_id\x18\x01 \x01(\t\x12\x13\n\x0bartifact_id\x18\x02 \x01(\t\x12\x19'
    b'\n\x11start_chunk_index\x18\x03 \x01(\r\x12\x12\n\nmax_chunks\x18\x04 \x01(\r"\xbc\x01\n!GetArtifactMan'
    b'ifestChunksResponse\x12\x14\n\x0cmx_source_id\x18\x01 \x01(\t\x12\x13\n\x0bartifact_id\x18\x02 \x01(\t\x12\x19'
    b'\n\x11start_chunk_index\x18\x03 \x01(\r\x128\n\x06chunks\x18\x04 \x03(\x0b2(.model_express.p2p.Ar'
    b'tifactManifestChunk\x12\x17\n\x0fnext_page_token\x18\x05 \x01(\t"R\n\x1fArtifactChunkTra'
    b'nsferDescriptor\x12\x0c\n\x04addr\x18\x01 \x01(\x04\x12\x0e\n\x06length\x18\x02 \x01(\x04\x12\x11\n\tdevice_id\x18\x03 \x01(\r'
    b'"]\n\x1bPrepareArtifactChunkRequest\x12\x14\n\x0cmx_source_id\x18\x01 \x01(\t\x12\x13\n\x0bartifac'
    b't_id\x18\x02 \x01(\t\x12\x13\n\x0bchunk_index\x18\x03 \x01(\r"\xf1\x01\n\x1cPrepareArtifactChunkResponse'
    b'\x12\x14\n\x0cmx_source_id\x18\x01 \x01(\t\x12\x13\n\x0bartifact_id\x18\x02 \x01(\t\x12\x10\n\x08lease_id\x18\x03 \x01(\t\x127\n'
    b'\x05chunk\x18\x04 \x01(\x0b2(.model_express.p2p.ArtifactManifestChunk\x12B\n\x06source'
    b'\x18\x05 \x01(\x0b22.model_express.p2p.ArtifactChunkTransferDescriptor\x12\x17\n\x0fso'
    b'urce_metadata\x18\x06 \x01(\x0c"Z\n\x1bReleaseArtifactChunkRequest\x12\x14\n\x0cmx_source_'
    b'id\x18\x01 \x01(\t\x12\x13\n\x0bartifact_id\x18\x02 \x01(\t\x12\x10\n\x08lease_id\x18\x03 \x01(\t"\x82\x01\n\x1cReleaseArtif'
    b'actChunkResponse\x12\x14\n\x0cmx_source_id\x18\x01 \x01(\t\x12\x13\n\x0bartifact_id\x18\x02 \x01(\t\x127\n\x05c'
    b'hunk\x18\x03 \x01(\x0b2(.model_express.p2p.ArtifactManifestChunk"\xcd\x01\n\x16Publish'
    b'MetadataRequest\x123\n\x08identity\x18\x01 \x01(\x0b2!.model_express.p2p.SourceIden'
    b'tity\x121\n\x06worker\x18\x02 \x01(\x0b2!.model_express.p2p.WorkerMetadata\x12\x11\n\tworke'
    b'r_id\x18\x03 \x01(\t\x12\x10\n\x08pod_name\x18\x04 \x01(\t\x12\x0f\n\x07pod_uid\x18\x05 \x01(\t\x12\x15\n\rpod_namespace\x18\x06'
    b' \x01(\t"d\n\x17PublishMetadataResponse\x12\x0f\n\x07success\x18\x01 \x01(\x08\x12\x0f\n\x07message\x18\x02 \x01('
    b'\t\x12\x14\n\x0cmx_source_id\x18\x03 \x01(\t\x12\x11\n\tworker_id\x18\x04 \x01(\t"\x91\x03\n\x11SourceInstanceRef'
    b'\x12\x14\n\x0cmx_source_id\x18\x01 \x01(\t\x12\x11\n\tworker_id\x18\x02 \x01(\t\x12\x12\n\nmodel_name\x18\x03 \x01(\t\x12\x13\n'
    b'\x0bworker_rank\x18\x04 \x01(\r\x12\x13\n\x0baccelerator\x18\x05 \x01(\t\x12\x12\n\nupdated_at\x18\x06 \x01(\x03\x12\x1a\n\rt'
    b'raining_step\x18\x07 \x01(\x04H\x00\x88\x01\x01\x12\x1d\n\x10layout_signature\x18\x08 \x01(\tH\x01\x88\x01\x01\x12D\n\x08topolo'
    b'gy\x18\t \x03(\x0b22.model_express.p2p.SourceInstanceRef.TopologyEntry\x12\x18\n\x0b'
    b'source_load\x18\n \x01(\x02H\x02\x88\x01\x01\x1a/\n\rTopologyEntry\x12\x0b\n\x03key\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 '
    b'\x01(\t:\x028\x01B\x10\n\x0e_training_stepB\x13\n\x11_layout_signatureB\x0e\n\x0c_source_load"\x8a'
    b'\x03\n\x12ListSourcesRequest\x123\n\x08identity\x18\x01 \x01(\x0b2!.model_express.p2p.Sour'
    b'ceIdentity\x12;\n\rstatus_filter\x18\x02 \x01(\x0e2\x1f.model_express.p2p.SourceStat'
    b'usH\x00\x88\x01\x01\x12\x1e\n\x11model_name_filter\x18\x03 \x01(\tH\x01\x88\x01\x01\x12\x1f\n\x12worker_rank_filter\x18\x04 '
    b'\x01(\rH\x02\x88\x01\x01\x12\x1e\n\x11min_training_step\x18\x05 \x01(\x04H\x03\x88\x01\x01\x12\x1b\n\x0emin_updated_at\x18\x06 \x01(\x03'
    b'H\x04\x88\x01\x01\x12\x12\n\x05limit\x18\x07 \x01(\rH\x05\x88\x01\x01B\x10\n\x0e_status_filterB\x14\n\x12_model_name_filte'
    b'rB\x15\n\x13_worker_rank_filterB\x14\n\x12_min_training_stepB\x11\n\x0f_min_updated_a'
    b'tB\x08\n\x06_limit"N\n\x13ListSourcesResponse\x127\n\tinstances\x18\x01 \x03(\x0b2$.model_ex'
    b'press.p2p.SourceInstanceRef"=\n\x12GetMetadataRequest\x12\x14\n\x0cmx_source_i'
    b'd\x18\x01 \x01(\t\x12\x11\n\tworker_id\x18\x02 \x01(\t"\xb5\x01\n\x13GetMetadataResponse\x12\r\n\x05found\x18\x01 \x01('
    b'\x08\x121\n\x06worker\x18\x02 \x01(\x0b2!.model_express.p2p.WorkerMetadata\x12\x14\n\x0cmx_sourc'
    b'e_id\x18\x03 \x01(\t\x12\x11\n\tworker_id\x18\x04 \x01(\t\x123\n\x08identity\x18\x05 \x01(\x0b2!.model_express.'
    b'p2p.SourceIdentity"\xae\x01\n\x13UpdateStatusRequest\x12\x14\n\x0cmx_source_id\x18\x01 \x01(\t'
    b'\x12\x13\n\x0bworker_rank\x18\x02 \x01(\r\x12/\n\x06status\x18\x03 \x01(\x0e2\x1f.model_express.p2p.Source'
    b'Status\x12\x11\n\tworker_id\x18\x04 \x01(\t\x12\x18\n\x0bsource_load\x18\x05 \x01(\x02H\x00\x88\x01\x01B\x0e\n\x0c_source_l'
    b'oad"8\n\x14UpdateStatusResponse\x12\x0f\n\x07success\x18\x01 \x01(\x08\x12\x0f\n\x07message\x18\x02 \x01(\t*\x8a\x01'
    b'\n\x10BackendFramework\x12\x1d\n\x19BACKEND_FRAMEWORK_UNKNOWN\x10\x00\x12\x1a\n\x16BACKEND_FRA'
    b'MEWORK_VLLM\x10\x01\x12\x1c\n\x18BACKEND_FRAMEWORK_SGLANG\x10\x02\x12\x1d\n\x19BACKEND_FRAMEWORK'
    b'_TRT_LLM\x10\x03*\xdc\x02\n\x0cMxSourceType\x12\x1a\n\x16MX_SOURCE_TYPE_WEIGHTS\x10\x00\x12\x17\n\x13MX_SO'
    b'URCE_TYPE_LORA\x10\x01\x12\x1d\n\x19MX_SOURCE_TYPE_CUDA_GRAPH\x10\x02\x12&\n"MX_SOURCE_TYP'
    b'E_TORCH_COMPILE_CACHE\x10\x03\x12\x1f\n\x1bMX_SOURCE_TYPE_TRITON_CACHE\x10\x04\x12"\n\x1eMX_S'
    b'OURCE_TYPE_DEEP_GEMM_CACHE\x10\x05\x12!\n\x1dMX_SOURCE_TYPE_TILELANG_CACHE\x10\x06\x12'
    b'!\n\x1dMX_SOURCE_TYPE_CUTE_DSL_CACHE\x10\x07\x12#\n\x1fMX_SOURCE_TYPE_FLASHINFER_'
    b'CACHE\x10\x08\x12 \n\x1cMX_SOURCE_TYPE_TVM_FFI_CACHE\x10\t*{\n\x0cSourceStatus\x12\x19\n\x15SOU'
    b'RCE_STATUS_UNKNOWN\x10\x00\x12\x1e\n\x1aSOURCE_STATUS_INITIALIZING\x10\x01\x12\x17\n\x13SOURCE_S'
    b'TATUS_READY\x10\x02\x12\x17\n\x13SOURCE_STATUS_STALE\x10\x032\x93\x03\n\nP2pService\x12h\n\x0fPublish'
    b'Metadata\x12).model_express.p2p.PublishMetadataRequest\x1a*.model_expr'
    b'ess.p2p.PublishMetadataResponse\x12\\\n\x0bListSources\x12%.model_express.p'
    b'2p.ListSourcesRequest\x1a&.model_express.p2p.ListSourcesResponse\x12\\\n'
    b'\x0bGetMetadata\x12%.model_express.p2p.GetMetadataRequest\x1a&.model_expr'
    b'ess.p2p.GetMetadataResponse\x12_\n\x0cUpdateStatus\x12&.model_express.p2p.'
    b"UpdateStatusRequest\x1a'.model_express.p2p.UpdateStatusResponse2\xe3\x06\n"
    b'\rWorkerService\x12n\n\x11GetTensorManifest\x12+.model_express.p2p.GetTenso'
    b'rManifestRequest\x1a,.model_express.p2p.GetTensorManifestResponse\x12n'
    b'\n\x11PrepareTensorRead\x12+.model_express.p2p.PrepareTensorReadRequest'
    b'\x1a,.model_express.p2p.PrepareTensorReadResponse\x12n\n\x11ReleaseTensorR'
    b'ead\x12+.model_express.p2p.ReleaseTensorReadRequest\x1a,.model_express'
    b'.p2p.ReleaseTensorReadResponse\x12\x86\x01\n\x19GetArtifactManifestHeader\x123.m'
    b'odel_express.p2p.GetArtifactManifestHeaderRequest\x1a4.model_expres'
    b's.p2p.GetArtifactManifestHeaderResponse\x12\x86\x01\n\x19GetArtifactManifestC'
    b'hunks\x123.model_express.p2p.GetArtifactManifestChunksRequest\x1a4.mod'
    b'el_express.p2p.GetArtifactManifestChunksResponse\x12w\n\x14PrepareArtif'
    b'actChunk\x12..model_express.p2p.PrepareArtifactChunkRequest\x1a/.model'
    b'_express.p2p.PrepareArtifactChunkResponse\x12w\n\x14ReleaseArtifactChun'
    b'k\x12..model_express.p2p.ReleaseArtifactChunkRequest\x1a/.model_expres'
    b's.p2p.ReleaseArtifactChunkResponseb\x06proto3'
)

BACKEND_FRAMEWORK_UNKNOWN = 0
BACKEND_FRAMEWORK_VLLM = 1
BACKEND_FRAMEWORK_SGLANG = 2
BACKEND_FRAMEWORK_TRT_LLM = 3

MX_SOURCE_TYPE_WEIGHTS = 0
MX_SOURCE_TYPE_LORA = 1
MX_SOURCE_TYPE_CUDA_GRAPH = 2
MX_SOURCE_TYPE_TORCH_COMPILE_CACHE = 3
MX_SOURCE_TYPE_TRITON_CACHE = 4
MX_SOURCE_TYPE_DEEP_GEMM_CACHE = 5
MX_SOURCE_TYPE_TILELANG_CACHE = 6
MX_SOURCE_TYPE_CUTE_DSL_CACHE = 7
MX_SOURCE_TYPE_FLASHINFER_CACHE = 8
MX_SOURCE_TYPE_TVM_FFI_CACHE = 9

SOURCE_STATUS_UNKNOWN = 0
SOURCE_STATUS_INITIALIZING = 1
SOURCE_STATUS_READY = 2
SOURCE_STATUS_STALE = 3

SourceIdentity = message(DESCRIPTOR, "SourceIdentity")
TensorDescriptor = message(DESCRIPTOR, "TensorDescriptor")
ArtifactSourceMetadata = message(DESCRIPTOR, "ArtifactSourceMetadata")
TensorSourceMetadata = message(DESCRIPTOR, "TensorSourceMetadata")
ArtifactManifest = message(DESCRIPTOR, "ArtifactManifest")
ArtifactManifestFile = message(DESCRIPTOR, "ArtifactManifestFile")
ArtifactManifestChunk = message(DESCRIPTOR, "ArtifactManifestChunk")
WorkerMetadata = message(DESCRIPTOR, "WorkerMetadata")
GetTensorManifestRequest = message(DESCRIPTOR, "GetTensorManifestRequest")
GetTensorManifestResponse = message(DESCRIPTOR, "GetTensorManifestResponse")
PrepareTensorReadRequest = message(DESCRIPTOR, "PrepareTensorReadRequest")
PrepareTensorReadResponse = message(DESCRIPTOR, "PrepareTensorReadResponse")
ReleaseTensorReadRequest = message(DESCRIPTOR, "ReleaseTensorReadRequest")
ReleaseTensorReadResponse = message(DESCRIPTOR, "ReleaseTensorReadResponse")
GetArtifactManifestHeaderRequest = message(DESCRIPTOR, "GetArtifactManifestHeaderRequest")
GetArtifactManifestHeaderResponse = message(DESCRIPTOR, "GetArtifactManifestHeaderResponse")
GetArtifactManifestChunksRequest = message(DESCRIPTOR, "GetArtifactManifestChunksRequest")
GetArtifactManifestChunksResponse = message(DESCRIPTOR, "GetArtifactManifestChunksResponse")
ArtifactChunkTransferDescriptor = message(DESCRIPTOR, "ArtifactChunkTransferDescriptor")
PrepareArtifactChunkRequest = message(DESCRIPTOR, "PrepareArtifactChunkRequest")
PrepareArtifactChunkResponse = message(DESCRIPTOR, "PrepareArtifactChunkResponse")
ReleaseArtifactChunkRequest = message(DESCRIPTOR, "ReleaseArtifactChunkRequest")
ReleaseArtifactChunkResponse = message(DESCRIPTOR, "ReleaseArtifactChunkResponse")
PublishMetadataRequest = message(DESCRIPTOR, "PublishMetadataRequest")
PublishMetadataResponse = message(DESCRIPTOR, "PublishMetadataResponse")
SourceInstanceRef = message(DESCRIPTOR, "SourceInstanceRef")
ListSourcesRequest = message(DESCRIPTOR, "ListSourcesRequest")
ListSourcesResponse = message(DESCRIPTOR, "ListSourcesResponse")
GetMetadataRequest = message(DESCRIPTOR, "GetMetadataRequest")
GetMetadataResponse = message(DESCRIPTOR, "GetMetadataResponse")
UpdateStatusRequest = message(DESCRIPTOR, "UpdateStatusRequest")
UpdateStatusResponse = message(DESCRIPTOR, "UpdateStatusResponse")

P2pService_NAME = DESCRIPTOR.services_by_name["P2pService"].full_name
P2pServiceStub = stub_class(DESCRIPTOR, "P2pService")
P2pServiceAsyncStub = P2pServiceStub


def P2pService_handler(implementation):
    return service_handler(DESCRIPTOR, "P2pService", implementation)


WorkerService_NAME = DESCRIPTOR.services_by_name["WorkerService"].full_name
WorkerServiceStub = stub_class(DESCRIPTOR, "WorkerService")
WorkerServiceAsyncStub = WorkerServiceStub


def WorkerService_handler(implementation):
    return service_handler(DESCRIPTOR, "WorkerService", implementation)
