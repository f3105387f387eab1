# Written by protos/generate.py from model.proto; do not edit.
from __future__ import annotations

from mx.wire.runtime import add_file, message, service_handler, stub_class

DESCRIPTOR = add_file(
    b'\n\x0bmodel.proto\x12\x13model_express.model"^\n\x12DeleteModelRequest\x12\x12\n\nmode'
    b'l_name\x18\x01 \x01(\t\x124\n\x08provider\x18\x02 \x01(\x0e2".model_express.model.ModelProvid'
    b'er"H\n\x13DeleteModelResponse\x12\x0f\n\x07success\x18\x01 \x01(\x08\x12\x14\n\x07message\x18\x02 \x01(\tH\x00\x88\x01\x01'
    b'B\n\n\x08_message"\x9c\x01\n\x14ModelDownloadRequest\x12\x12\n\nmodel_name\x18\x01 \x01(\t\x124\n\x08pro'
    b'vider\x18\x02 \x01(\x0e2".model_express.model.ModelProvider\x12\x16\n\x0eignore_weight'
    b's\x18\x03 \x01(\x08\x12\x15\n\x08revision\x18\x04 \x01(\tH\x00\x88\x01\x01B\x0b\n\t_revision"\xe7\x01\n\x11ModelStatusUpdat'
    b'e\x12\x12\n\nmodel_name\x18\x01 \x01(\t\x120\n\x06status\x18\x02 \x01(\x0e2 .model_express.model.Mode'
    b'lStatus\x12\x14\n\x07message\x18\x03 \x01(\tH\x00\x88\x01\x01\x124\n\x08provider\x18\x04 \x01(\x0e2".model_express.'
    b'model.ModelProvider\x12\x1e\n\x11resolved_revision\x18\x05 \x01(\tH\x01\x88\x01\x01B\n\n\x08_messageB'
    b'\x14\n\x12_resolved_revision"\xec\x01\n\x11ModelFilesRequest\x12\x12\n\nmodel_name\x18\x01 \x01(\t\x12'
    b'4\n\x08provider\x18\x02 \x01(\x0e2".model_express.model.ModelProvider\x12\x12\n\nchunk_s'
    b'ize\x18\x03 \x01(\r\x12=\n\rfile_selector\x18\x04 \x01(\x0b2&.model_express.model.ModelFile'
    b'Selector\x12\x16\n\x0eignore_weights\x18\x05 \x01(\x08\x12\x15\n\x08revision\x18\x06 \x01(\tH\x00\x88\x01\x01B\x0b\n\t_revi'
    b'sion""\n\x11ModelFileSelector\x12\r\n\x05paths\x18\x01 \x03(\t"\xab\x01\n\tFileChunk\x12\x15\n\rrelati'
    b've_path\x18\x01 \x01(\t\x12\x0c\n\x04data\x18\x02 \x01(\x0c\x12\x0e\n\x06offset\x18\x03 \x01(\x04\x12\x12\n\ntotal_size\x18\x04 \x01(\x04\x12'
    b'\x15\n\ris_last_chunk\x18\x05 \x01(\x08\x12\x14\n\x0cis_last_file\x18\x06 \x01(\x08\x12\x18\n\x0bcommit_hash\x18\x07 \x01('
    b'\tH\x00\x88\x01\x01B\x0e\n\x0c_commit_hash"j\n\rModelFileList\x12\x12\n\nmodel_name\x18\x01 \x01(\t\x121\n\x05f'
    b'iles\x18\x02 \x03(\x0b2".model_express.model.ModelFileInfo\x12\x12\n\ntotal_size\x18\x03 \x01'
    b'(\x04"4\n\rModelFileInfo\x12\x15\n\rrelative_path\x18\x01 \x01(\t\x12\x0c\n\x04size\x18\x02 \x01(\x04*9\n\x0bMode'
    b'lStatus\x12\x0f\n\x0bDOWNLOADING\x10\x00\x12\x0e\n\nDOWNLOADED\x10\x01\x12\t\n\x05ERROR\x10\x02*;\n\rModelProv'
    b'ider\x12\x10\n\x0cHUGGING_FACE\x10\x00\x12\x07\n\x03NGC\x10\x01\x12\x07\n\x03GCS\x10\x02\x12\x06\n\x02S3\x10\x032\x9a\x03\n\x0cModelServic'
    b'e\x12l\n\x15EnsureModelDownloaded\x12).model_express.model.ModelDownloadRe'
    b'quest\x1a&.model_express.model.ModelStatusUpdate0\x01\x12\\\n\x10StreamModelFi'
    b'les\x12&.model_express.model.ModelFilesRequest\x1a\x1e.model_express.mode'
    b'l.FileChunk0\x01\x12\\\n\x0eListModelFiles\x12&.model_express.model.ModelFiles'
    b'Request\x1a".model_express.model.ModelFileList\x12`\n\x0bDeleteModel\x12\'.mod'
    b'el_express.model.DeleteModelRequest\x1a(.model_express.model.Delete'
    b'ModelResponseb\x06proto3'
)

DOWNLOADING = 0
DOWNLOADED = 1
ERROR = 2

HUGGING_FACE = 0
NGC = 1
GCS = 2
S3 = 3

DeleteModelRequest = message(DESCRIPTOR, "DeleteModelRequest")
DeleteModelResponse = message(DESCRIPTOR, "DeleteModelResponse")
ModelDownloadRequest = message(DESCRIPTOR, "ModelDownloadRequest")
ModelStatusUpdate = message(DESCRIPTOR, "ModelStatusUpdate")
ModelFilesRequest = message(DESCRIPTOR, "ModelFilesRequest")
ModelFileSelector = message(DESCRIPTOR, "ModelFileSelector")
FileChunk = message(DESCRIPTOR, "FileChunk")
ModelFileList = message(DESCRIPTOR, "ModelFileList")
ModelFileInfo = message(DESCRIPTOR, "ModelFileInfo")

ModelService_NAME = DESCRIPTOR.services_by_name["ModelService"].full_name
ModelServiceStub = stub_class(DESCRIPTOR, "ModelService")
ModelServiceAsyncStub = ModelServiceStub


def ModelService_handler(implementation):
    return service_handler(DESCRIPTOR, "ModelService", implementation)
