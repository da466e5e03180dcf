"""Defaults of the settings, in their own module to keep the start-up of `inv` fast."""

# All are texts: Invoke casts `INVOKE_DB_*` to the default's type, and an invalid number would be a traceback.
DEFAULTS = {
    "dumps_dir": "dumps",
    "url_env": "DATABASE_URL",
    "bin_dir": "",
    "prisma_dir": "",
    "migrate_command": "",
    "compress": "none",
    "safety_dumps": "3",
    "backup": "",
    "keep": "",
    "method": "auto",
    "kept_databases": "1",
    "disconnect": "no",
    "lock_timeout": "10s",
    "jobs": "",
    "protected": "",
    "local": "",
    "trust": "ask",
    "output": "normal",
}
