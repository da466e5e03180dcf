// The connection that Prisma's schema engine (wasm build) migrates through.
//
// @prisma/adapter-pg is written for an application's queries. Five things that a migration
// needs are added here: the URL as Prisma understands it, TLS "prefer", catalogue columns
// of internal types, scripts sent whole, and a shadow database that can be dropped again.
import { randomUUID } from 'node:crypto'

import { PrismaPg } from '@prisma/adapter-pg'
import { ColumnTypeEnum } from '@prisma/driver-adapter-utils'
import pg from 'pg'

const { builtins } = pg.types

/**
 * Read a URL by Prisma's rules, which node-postgres does not follow: `schema` names the
 * search path, a `host` parameter (a socket folder) beats the authority, `sslaccept` and
 * not `sslmode` decides whether a certificate is checked.
 */
function readUrl(text) {
  if (!/^postgres(ql)?:\/\//.test(text) || !URL.canParse(text)) {
    throw new Error('The provided database string is invalid: DATABASE_URL must be a postgresql:// URL.')
  }
  const url = new URL(text)
  const parameter = (name, otherwise) => url.searchParams.get(name) ?? otherwise
  const schema = parameter('schema', 'public')
  return {
    schema,
    sslmode: parameter('sslmode', 'prefer'),
    checkCertificate: parameter('sslaccept', '') === 'strict',
    connection: {
      host: parameter('host', decodeURIComponent(url.hostname)),
      port: Number(url.port || 5432),
      database: decodeURIComponent(url.pathname.slice(1)),
      user: decodeURIComponent(url.username) || undefined,
      password: decodeURIComponent(url.password) || undefined,
      application_name: parameter('application_name', undefined),
      connectionTimeoutMillis: 1000 * Number(parameter('connect_timeout', 5)),
      options: `-c search_path=${asOptionValue(schema)}`,
      // The engine asks one thing at a time, and its advisory lock belongs to the session
      // that took it: a second connection would work without the lock.
      max: 1,
      allowExitOnIdle: true,
    },
  }
}

/** Quote as an identifier, then for the space-separated `options` of the start-up packet. */
function asOptionValue(schema) {
  return `"${schema.replaceAll('"', '""')}"`.replace(/[\\\s]/g, '\\$&')
}

/** Add what `sslmode` asks for. "prefer" has to try, since node-postgres only knows on and off. */
async function withTls({ connection, sslmode, checkCertificate }) {
  const secured = { ...connection, ssl: { rejectUnauthorized: checkCertificate } }
  if (sslmode === 'disable' || connection.host.startsWith('/')) return connection
  if (sslmode === 'prefer' && (await refusesTls(secured))) return connection
  return secured
}

async function refusesTls(secured) {
  const probe = new pg.Client(secured)
  probe.on('error', () => {}) // a second report of what connect() has thrown
  try {
    await probe.connect()
  } catch (error) {
    // Anything else (no server, wrong password) is told better by the real connection.
    return error.message.includes('does not support SSL')
  }
  await probe.end()
  return false
}

// The engine's catalogue queries return columns of these types, and the stock adapter
// refuses them. The text form is what the engine wants, except that it reads a "char"
// (a constraint's type) as one character, and panics over text.
const INTERNAL_CHAR = 18
const READ_AS = new Map([
  [INTERNAL_CHAR, builtins.TEXT],
  [19, builtins.TEXT], // name
  [24, builtins.TEXT], // regproc
  [2205, builtins.TEXT], // regclass
  [1002, 1009], // "char"[] and name[] as text[]
  [1003, 1009],
])

/** Mend one connection. Its class is not exported, so its methods are replaced in place. */
function forMigrations(connection) {
  const performIO = connection.performIO.bind(connection)
  const queryRaw = connection.queryRaw.bind(connection)
  const charColumns = new WeakMap() // by the list of rows, which passes through queryRaw as it is

  connection.performIO = async (query) => {
    const result = await performIO(query)
    // Into a shadow database the engine sends whole scripts this way: then the result is
    // a list, one per statement, and has no fields of its own.
    const fields = result.fields ?? []
    charColumns.set(result.rows ?? result, fields.map((field) => field.dataTypeID === INTERNAL_CHAR))
    for (const field of fields) {
      field.dataTypeID = READ_AS.get(field.dataTypeID) ?? field.dataTypeID
    }
    return result
  }

  connection.queryRaw = async (query) => {
    const result = await queryRaw(query)
    charColumns.get(result.rows).forEach((isChar, column) => {
      if (isChar) result.columnTypes[column] = ColumnTypeEnum.Character
    })
    return result
  }

  // The stock method cuts the text at every `;`, also inside function bodies and literals.
  // Sent whole, as the native engine does it, the server splits it, and a migration that
  // fails half way is undone, since one simple-query message is one implicit transaction.
  connection.executeScript = async (script) => {
    try {
      await connection.client.query(script)
    } catch (error) {
      connection.onError(error)
    }
  }

  return connection
}

class MigrationAdapter extends PrismaPg {
  async connect() {
    return forMigrations(await super.connect())
  }

  /** `migrate dev` and `migrate diff` replay the migrations in a database of their own. */
  async connectToShadowDb() {
    const database = `prisma_migrate_shadow_db_${randomUUID()}`
    const keeper = await this.connect()
    await keeper.executeScript(`CREATE DATABASE "${database}"`)
    const shadow = await new MigrationAdapter({ ...this.config, database }, this.options).connect()
    const disconnect = shadow.dispose.bind(shadow)
    shadow.dispose = async () => {
      await disconnect() // first, for a database in use can't be dropped
      await keeper.executeScript(`DROP DATABASE "${database}"`)
      await keeper.dispose()
    }
    return shadow
  }
}

/** @param {string} text the URL as it stands in `.env`, untouched */
export async function createMigrationAdapter(text) {
  releaseLockTimer()
  const read = readUrl(text)
  return new MigrationAdapter(await withTls(read), { schema: read.schema })
}

/**
 * The engine gives the advisory lock 10 s and leaves that timer running once it has the
 * lock, which would hold the CLI open. Unreferenced, it still fires while the lock is
 * awaited, since the socket keeps the process alive then.
 */
function releaseLockTimer() {
  globalThis.setTimeout = new Proxy(globalThis.setTimeout, {
    apply(setTimeout, self, args) {
      const timer = Reflect.apply(setTimeout, self, args)
      if (args[1] === 10_000) timer.unref()
      return timer
    },
  })
}
