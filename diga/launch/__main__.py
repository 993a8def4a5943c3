"""The settings of a cluster as a shell reads them: `eval "$(python -m diga.launch)"` before `ray start`."""

from diga.launch import SETTINGS

print("\n".join(f"export {key}={value}" for key, value in SETTINGS.items()))
