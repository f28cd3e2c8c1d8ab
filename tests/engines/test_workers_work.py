"""A worker that starts while its database is away."""

import threading
from pathlib import Path

from tests.proxy import proxied

from caviar.engines.engine import WorkOrder
from caviar.engines.work import open_patiently
from caviar.spec import StudySpec
from caviar.storage.database import new_owner, open_storage
from caviar.storage.home import locate_home
from caviar.storage.studies import create_study


def test_a_worker_that_starts_in_an_outage_waits_for_its_end_or_to_be_stopped(
    postgresql_url: str, spec: StudySpec, tmp_path: Path
) -> None:
    create_study(open_storage(postgresql_url, owner=new_owner()), spec, attributes={})
    stop = threading.Event()
    with proxied(postgresql_url) as (way, url):
        order = WorkOrder(home=locate_home(tmp_path, storage=url), study="toy", uid="", spec=spec, threads=1)
        way.cut()
        threading.Timer(0.7, way.mend).start()
        opened = open_patiently(order, owner="me", stop=stop)
        assert opened is not None
        assert opened[0].owner == "me"
        assert opened[1].study_name == "toy"
        opened[0].engine.dispose()
        way.cut()
        stop.set()
        assert open_patiently(order, owner="me", stop=stop) is None
