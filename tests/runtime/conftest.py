from tests.runtime.file_server import server as server  # a fixture
