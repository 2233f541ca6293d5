"""The tour of docs/api.md, with a client that was generated from the OpenAPI document alone.

usage: api_tour.py <directory of the generated package> <url> <token> <csv file> <its records>
"""

import io
import sys
import time

sys.path.insert(0, sys.argv[1])
URL, TOKEN, FILE, RECORDS = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])

from generated import AuthenticatedClient
from generated.api.clients import list_clients
from generated.api.files import drop_file, get_drop, list_files
from generated.api.health import readyz, version
from generated.api.ingestions import export_rejected, get_ingestion, list_rejected
from generated.api.objects import get_object
from generated.api.records import get_latest, list_latest, list_records, list_views, list_windows
from generated.api.streams import list_streams, scale_stream
from generated.models import FileState, Problem, ScaleRequest
from generated.types import File

client = AuthenticatedClient(base_url=URL, token=TOKEN)


def drop(tenant, name, content):
    dropped = drop_file.sync(tenant, name, client=client, body=File(payload=io.BytesIO(content)))
    assert dropped.bytes_ == len(content), dropped
    token = dropped.status.rsplit("/", 1)[1]
    for _ in range(1800):
        status = get_drop.sync(tenant, token, client=client)
        if status.has_ended:
            return dropped.ingestion, status
        time.sleep(0.1)
    raise SystemExit(f"{name} has not ended: {status}")


assert version.sync(client=client).name == "mysimbdp"
assert readyz.sync(client=client).ready
assert [found.id for found in list_clients.sync(client=client).items] == ["client1", "client2", "client3"]

with open(FILE, "rb") as file:
    content = file.read()
ingestion, status = drop("client2", "weather.csv", content)
assert (status.state, status.stored, status.rejected) == (FileState.INGESTED, RECORDS, 0), status
listed = list_files.sync(client=client, state="ingested", name="weather.csv")
assert [found.ingestion for found in listed.items] == [ingestion], listed
details = get_ingestion.sync(ingestion, client=client)
assert details.runs[0].stored == RECORDS and details.runs[0].seconds.total > 0, details

# The stored records, the latest one, and windows.
views = {found.name: found for found in list_views.sync("client2", client=client).items}
assert views["weather"].batch == "documents", views
last = list_records.sync("client2", client=client, view="weather", source="EWR", order="desc", limit=1).items[0]
assert last["origin"] == "EWR" and last.field_origin.layer == "batch", last
latest = get_latest.sync("client2", "EWR", client=client, view="weather")
assert latest.to_dict() == last.to_dict(), latest
stations = list_latest.sync("client2", client=client, view="weather").items
assert [found["origin"] for found in stations] == ["EWR", "JFK", "LGA"], stations
windows = list_windows.sync("client2", client=client, view="weather", size="28d", fields="temp").items
assert sum(found.count for found in windows) == RECORDS, windows

# A file with a record that is rejected, and its repair.
ingestion, status = drop("client2", "weather-times.csv", b"name,time_hour\n1,2013-01-01T00:00:00Z\n2,never\n")
assert (status.stored, status.rejected) == (1, 1), status
rejected = list_rejected.sync(ingestion, client=client)
assert [(one.record, one.content) for one in rejected.items] == [(1, "2,never")], rejected
exported = export_rejected.sync_detailed(ingestion, client=client).content
assert exported == b"name,time_hour\n2,never\n", exported
_, status = drop("client2", "weather-repaired.csv", exported.replace(b"never", b"2013-01-02T00:00:00Z"))
assert (status.stored, status.rejected) == (1, 0), status

# An object, whole and in part.
ingestion, status = drop("client1", "object.csv", content)
assert status.state == FileState.INGESTED, status
assert get_object.sync_detailed("client1", ingestion, client=client).content == content
part = get_object.sync_detailed("client1", ingestion, client=client, range_="bytes=10-19")
assert (part.status_code, part.content) == (206, content[10:20]), part

streams = {(found.client, found.stream): found for found in list_streams.sync(client=client).items}
assert set(streams) == {("client1", "readings"), ("client3", "weather")}, streams
assert scale_stream.sync("client1", "readings", client=client, body=ScaleRequest(instances=2)).desired == 2

problem = list_files.sync(client=client, client_query="nobody")
assert isinstance(problem, Problem) and problem.code == "not_found", problem
