"""Which lines of a page are commands, and which are what they print."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.blocks import Command, commands, without_commands

pytestmark = pytest.mark.unit

PAGE = """# Title

## Without prompts

    kubectl apply -f pool.yaml
    kubectl get pods   # a comment

    NAME   READY
    web    1/1

Text.

```yaml
kubectl: is a key here
```

1. A list

       helm install spiderpool charts/spiderpool \\
         --set a=b

## With prompts

```console
$ kubectl apply -f - <<E
kind: SpiderIPPool
E
kubectl says no
$ for name in a b; do
  echo $name
done
a
b
```

Text.

    pod ── agent
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.md"
    file.write_text(PAGE)
    return file


def test_commands_with_what_they_print(page: Path) -> None:
    assert commands(page) == [
        Command(5, "kubectl apply -f pool.yaml", (), "Without prompts"),
        Command(6, "kubectl get pods   # a comment", ("NAME   READY", "web    1/1"), "Without prompts"),
        Command(19, "helm install spiderpool charts/spiderpool \\\n  --set a=b", (), "Without prompts"),
        Command(25, "kubectl apply -f - <<E\nkind: SpiderIPPool\nE", ("kubectl says no",), "With prompts"),
        Command(29, "for name in a b; do\n  echo $name\ndone", ("a", "b"), "With prompts"),
    ]


def test_what_is_no_command(page: Path) -> None:
    found = [(chunk.line, chunk.text) for chunk in without_commands(page)]
    assert found == [(14, "kubectl: is a key here"), (38, "pod ── agent")]
