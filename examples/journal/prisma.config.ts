// Runs the real CLI with the wasm build of the real schema engine, which ships inside the
// npm package, so nothing native has to be fetched.
//
// With a config file Prisma reads no .env: whoever starts the CLI passes DATABASE_URL.
import { defineConfig } from 'prisma/config'

export default defineConfig({
  schema: 'prisma/schema.prisma',
  migrations: { path: 'prisma/migrations' },
  engine: 'js',
  experimental: { adapter: true },
  // Loaded when Prisma connects: whoever only asks for the paths above needs no driver.
  adapter: async () => {
    const { createMigrationAdapter } = await import('./migration-adapter.mjs')
    return createMigrationAdapter(process.env.DATABASE_URL ?? '')
  },
})
