# Written by protos/generate.py from api.proto; do not edit.
from __future__ import annotations

from mx.wire.runtime import add_file, message, service_handler, stub_class

DESCRIPTOR = add_file(
    b'\n\tapi.proto\x12\x11model_express.api"J\n\nApiRequest\x12\n\n\x02id\x18\x01 \x01(\t\x12\x0e\n\x06acti'
    b'on\x18\x02 \x01(\t\x12\x14\n\x07payload\x18\x03 \x01(\x0cH\x00\x88\x01\x01B\n\n\x08_payload"X\n\x0bApiResponse\x12\x0f\n\x07suc'
    b'cess\x18\x01 \x01(\x08\x12\x11\n\x04data\x18\x02 \x01(\x0cH\x00\x88\x01\x01\x12\x12\n\x05error\x18\x03 \x01(\tH\x01\x88\x01\x01B\x07\n\x05_dataB\x08\n\x06_e'
    b'rror2Z\n\nApiService\x12L\n\x0bSendRequest\x12\x1d.model_express.api.ApiRequest'
    b'\x1a\x1e.model_express.api.ApiResponseb\x06proto3'
)

ApiRequest = message(DESCRIPTOR, "ApiRequest")
ApiResponse = message(DESCRIPTOR, "ApiResponse")

ApiService_NAME = DESCRIPTOR.services_by_name["ApiService"].full_name
ApiServiceStub = stub_class(DESCRIPTOR, "ApiService")
ApiServiceAsyncStub = ApiServiceStub


def ApiService_handler(implementation):
    return service_handler(DESCRIPTOR, "ApiService", implementation)
