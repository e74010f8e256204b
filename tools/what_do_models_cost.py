"""Writer of the price snapshot, from the installed `genai-prices`.

`make prices` installs the newest release and runs this; look at the difference before you commit it.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from datetime import UTC, datetime
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "src" / "providers" / "prices"


def main() -> None:
    """Write snapshot.json and the licence of what it was made from."""
    # By its path: the package cannot be imported before it is built, and it is built with the snapshot.
    home = ROOT / "python" / "quotaflow" / "_prices" / "price_data.py"
    spec = importlib.util.spec_from_file_location("price_data", home)
    assert spec is not None
    assert spec.loader is not None
    price_data: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(price_data)
    from genai_prices.data import providers

    package = distribution("genai-prices")
    today = datetime.now(tz=UTC).date()
    head = {
        "made_from": f"genai-prices {package.version}",
        "on": today.isoformat(),
        "licence": "LICENSE-genai-prices",
    }
    text = written(head, price_data.slim(providers, today))
    (FOLDER / "snapshot.json").write_text(text, encoding="utf-8")
    licences = [file for file in package.files or () if file.name == "LICENSE"]
    (FOLDER / "LICENSE-genai-prices").write_text(licences[0].read_text(), encoding="utf-8")
    sys.stdout.write(f"{head['made_from']}: {len(text)} bytes\n")


def written(head: dict[str, str], providers: list[dict[str, Any]]) -> str:
    """Return JSON with one model a line, so that differences can be read."""

    def compact(value: object) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    blocks = []
    for provider in providers:
        models = ",\n".join(compact(model) for model in provider["models"])
        facts = compact({name: value for name, value in provider.items() if name != "models"})
        blocks.append(f'{facts[:-1]},"models":[\n{models}]}}')
    return f'{compact(head)[:-1]},"providers":[\n' + ",\n".join(blocks) + "]}\n"


if __name__ == "__main__":
    main()
