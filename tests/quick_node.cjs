// Loaded into each Prisma that the tests start: with its compiled code kept from run to run, and without the optimizing
// compiler for WebAssembly, a short command takes half of the processor time.
'use strict'

const fs = require('node:fs')
const Module = require('node:module')
const path = require('node:path')
const v8 = require('node:v8')
const vm = require('node:vm')

const folder = path.join(__dirname, '..', 'examples', 'journal', 'node_modules', '.cache', 'compiled')
const compile = Module.prototype._compile

v8.setFlagsFromString('--liftoff-only')

// As Node 21 has it. Without it the driver `pg` loads all of `fetch` to find out where it runs.
globalThis.navigator ??= { userAgent: `Node.js/${process.versions.node.split('.')[0]}` }

// Prisma's loader needs a tenth of the three hundred files of this library, so each is loaded when it is asked for.
function partOfEffect(require, name) {
  return /^[A-Z]/.test(String(name)) ? require(`effect/${name}`) : require('effect/Function')[name]
}

const load = Module._load
Module._load = function (request, parent, ...others) {
  // A library for tests, which that library brings along and nothing calls.
  if (request === 'fast-check') return {}
  if (request !== 'effect') return load.call(this, request, parent, ...others)
  const require = Module.createRequire(parent.filename)
  return new Proxy({}, { get: (parts, name) => (parts[name] ??= partOfEffect(require, name)) })
}

function read(file) {
  try {
    return fs.readFileSync(file)
  } catch {
    return undefined
  }
}

// Code that was kept can't import modules (Node 20), and Prisma's own file does so only where nothing depends on it.
function keeps(content, filename) {
  return content.length > 1500 && (!content.includes('import(') || filename.endsWith('/prisma/build/index.js'))
}

Module.prototype._compile = function (content, filename) {
  if (!keeps(content, filename)) return compile.call(this, content, filename)
  const { size, mtimeMs } = fs.statSync(filename)
  const kept = path.join(folder, `${encodeURIComponent(filename).slice(-180)}-${size}-${mtimeMs}-${process.version}`)
  const cachedData = read(kept)
  const script = new vm.Script(Module.wrap(content.replace(/^#!.*/, '')), { filename, cachedData })
  if (cachedData === undefined || script.cachedDataRejected) {
    // At the end it holds the functions that were called.
    process.once('exit', () => {
      fs.mkdirSync(folder, { recursive: true })
      const part = `${kept}.${process.pid}`
      fs.writeFileSync(part, script.createCachedData())
      fs.renameSync(part, kept)
    })
  }
  const call = [this.exports, Module.createRequire(filename), this, filename, path.dirname(filename)]
  return script.runInThisContext().apply(this.exports, call)
}
