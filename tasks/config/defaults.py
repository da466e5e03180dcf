"""The configuration's defaults, apart so that loading the tasks loads nothing else."""

# Texts all of them: Invoke casts `INVOKE_DB_*` by the default's type, and a bad number would be a traceback.
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
    "lock_timeout": "10s",
    "protected": "",
    "local": "",
    "trust": "ask",
    "output": "normal",
}
