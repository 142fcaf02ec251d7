"""What the server relies on in LitServe: an update that changes any of it fails here, before a server hangs."""

import asyncio
import inspect

import pytest
from litserve import LitAPI, LitServer
from litserve.loops.base import LitLoop
from litserve.loops.loops import inference_worker
from litserve.server import response_queue_to_buffer
from litserve.specs.base import LitSpec
from litserve.transport.base import MessageTransport
from litserve.utils import ResponseBufferItem

from serve.settings import EngineSettings
from serve.workers.client import WorkerClient
from serve.workers.litserve_adapter import AdaptedServer
from serve.workers.messages import Event, Finished, PromptInput, Token
from serve.workers.shared_state import CheckpointList, SharedState
from serve.workers.worker import EngineWorker

RELIED_ON = {
    "LitAPI.__init__": "max_batch_size, batch_timeout, api_path, stream, loop, spec, mcp, enable_async",
    "LitAPI.setup": "device",
    "LitAPI.decode_request": "request, kwargs",
    "LitAPI.encode_response": "output, kwargs",
    "LitSpec.__init__": "",
    "LitSpec.__getstate__": "",
    "LitSpec.setup": "server",
    "LitLoop.run": ("lit_api, device, worker_id, request_queue, transport, workers_setup_status, callback_runner"),
    "MessageTransport.send": "item, consumer_id",
    "response_queue_to_buffer": "transport, response_buffer, consumer_id, litapi_connector",
    "ResponseBufferItem.__init__": "event, response_queue, worker_id, response",
    "inference_worker": (
        "lit_api, device, worker_id, request_queue, transport, workers_setup_status, callback_runner, restart_workers"
    ),
    "LitServer._register_internal_endpoints": "",
    "LitServer._init_manager": "num_api_servers",
    "LitServer.verify_worker_status": "",
    "LitServer._start_server": "port, num_uvicorn_servers, log_level, sockets, uvicorn_worker_type, kwargs",
    "LitServer._start_worker_monitoring": "manager, uvicorn_workers",
    "LitServer.lifespan": "app",
    "LitServer.launch_single_inference_worker": "lit_api, worker_id",
}
OWNERS = {owner.__name__: owner for owner in (LitAPI, LitSpec, LitServer, LitLoop, MessageTransport)} | {
    "ResponseBufferItem": ResponseBufferItem
}
FUNCTIONS = {function.__name__: function for function in (inference_worker, response_queue_to_buffer)}


@pytest.mark.parametrize("name", RELIED_ON)
def test_litserve_still_has_the_signature_that_the_adapter_overrides_or_calls(name):
    owner, _, method = name.partition(".")
    function = getattr(OWNERS[owner], method) if method else FUNCTIONS[name]
    parameters = [parameter for parameter in inspect.signature(function).parameters if parameter != "self"]
    assert ", ".join(parameters) == RELIED_ON[name]


def test_litserve_still_sets_the_attributes_that_the_adapter_reads_or_replaces():
    class Spec(LitSpec):
        def __init__(self) -> None:
            super().__init__()
            self.api_path = "/path"

    spec = Spec()
    server = LitServer(LitAPI(spec=spec), accelerator="cpu", timeout=False)
    for name in ("response_buffer", "litapi_request_queues", "litapi_connector", "uvicorn_graceful_timeout", "lit_api",
                 "_shutdown_event", "app", "_get_request_queue", "data_streamer"):  # fmt: skip
        assert hasattr(server, name), name
    assert {"response_buffer", "request_queue", "_server"} <= vars(spec).keys()
    source = inspect.getsource(LitServer)
    for name in ("self.inference_workers = []", "self._transport = ", "self.workers_setup_status = "):
        assert name in source
    assert 'os.environ["LITSERVE_WORKER_ID"]' in inspect.getsource(inference_worker)


def test_a_request_and_the_events_of_a_step_pass_through_litserves_queue_and_reader():
    settings = EngineSettings(checkpoints={}, dtype="fp32", quantize=None, max_batch_size=2)
    state = SharedState(1, 1)
    worker, client = EngineWorker(settings, state, CheckpointList({}, 1)), WorkerClient(state)
    worker.index = 0
    server = AdaptedServer(worker, client, "cpu", 1, 1.0)
    server._init_manager(1)
    api = server.lit_api
    api.spec.setup(server)

    async def main() -> list[Event]:
        reader = asyncio.create_task(
            response_queue_to_buffer(server._transport, server.response_buffer, 0, server.litapi_connector)
        )
        handle = client.reserve("model", 10.0)
        client.submit(handle, [PromptInput([1, 2], None)])
        request = api.decode_request(server._get_request_queue(api.api_path).get(1.0))
        assert (request.slot, request.prompts) == (handle.slot, [PromptInput([1, 2], None)])
        events = [Token(0, 5, "a"), Finished()]
        server._transport.send(api.encode_response([(request.slot.uid, event) for event in events]), 0)
        received = [event async for event in handle.events()]
        reader.cancel()
        return received

    assert asyncio.run(asyncio.wait_for(main(), 10)) == [Token(0, 5, "a"), Finished()]
