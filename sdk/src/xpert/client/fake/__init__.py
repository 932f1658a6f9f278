"""A server in memory for partners' own tests: it keeps to REST v1, without models and without the services' package.

```python
fake = FakeServer()
fake.add("starter", "poetic", words={"poetic": 0.9})
client = Client("http://fake", cache=tmp_path, transport=fake.transport())
```

What a real server computes is made up here: an explanation has the coefficients that `FakeServer.add` was given, or some that
follow from the adapter's digest; a merge has the files of its heaviest source. Jobs end at once, or after `job_steps` looks.
"""

from xpert.client.fake.faults import Fault, Seen
from xpert.client.fake.server import FakeServer

__all__ = ["FakeServer", "Fault", "Seen"]
