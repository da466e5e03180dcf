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

// A library for tests, as large as the rest, which Prisma's own libraries bring along and nothing calls.
const load = Module._load
Module._load = function (request, ...others) {
  return request === 'fast-check' ? {} : load.call(this, request, ...others)
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
