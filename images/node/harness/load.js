'use strict';
// Turns a function's source into what it exports. CommonJS runs as Node would
// run it, with a top-level `return` allowed; ES modules are told by their
// file's ending or by their syntax; TypeScript loses its types first.

const vm = require('node:vm');
const path = require('node:path');
const { Module, createRequire, registerHooks, stripTypeScriptTypes } = require('node:module');
const { pathToFileURL } = require('node:url');
const P = require('./primordials.js');
const { describe } = require('./errors.js');
const { explain } = require('./modules.js');

const ROOT = '/function';
const ESM_ONLY = /Cannot use import statement|Unexpected token 'export'|Cannot use 'import\.meta'|await is only valid in async functions|Unexpected reserved word/;

/** Resolves to what code exports. Throws an Error with code 'syntax_error' or
 * 'load_error'. webtask is shown to the code as module.webtask. */
async function load({ file, code, webtask }) {
  const name = path.join(ROOT, path.basename(file || 'function.js'));
  const ending = path.extname(name);
  let source = code;
  if (ending === '.ts' || ending === '.mts' || ending === '.cts') source = strip(code, name);
  if (ending === '.mjs' || ending === '.mts') return importSource(source, name);
  let compiled;
  try {
    compiled = compile(source, name);
  } catch (e) {
    if (ending !== '.cjs' && ending !== '.cts' && ESM_ONLY.test(e.message)) return importSource(source, name);
    throw labelled(e, 'syntax_error');
  }
  try {
    return runCommonJS(compiled, name, webtask);
  } catch (e) {
    throw labelled(e, 'load_error');
  }
}

function strip(code, name) {
  try {
    return stripTypeScriptTypes(code);
  } catch (e) {
    e.message = `${path.basename(name)}: ${e.message}`;
    throw labelled(e, 'syntax_error');
  }
}

function compile(source, filename) {
  return vm.compileFunction(source.replace(/^#!.*/, ''), ['exports', 'require', 'module', '__filename', '__dirname'], {
    filename,
    importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
}

function runCommonJS(compiled, filename, webtask) {
  const mod = new Module(filename, null);
  mod.filename = filename;
  mod.paths = Module._nodeModulePaths(ROOT);
  mod.webtask = webtask;
  const require = createRequire(filename);
  const returned = compiled.call(mod.exports, mod.exports, require, mod, filename, ROOT);
  mod.loaded = true;
  return returned === undefined ? mod.exports : returned;
}

/** Evaluates source as the ES module at filename, where no file is; what it
 * imports is resolved as from there. */
async function importSource(source, filename) {
  const url = pathToFileURL(filename).href;
  const hooks = registerHooks({
    resolve: (specifier, context, next) => (specifier === url ? { url, format: 'module', shortCircuit: true } : next(specifier, context)),
    load: (u, context, next) => (u === url ? { format: 'module', source, shortCircuit: true } : next(u, context)),
  });
  try {
    return await import(url);
  } catch (e) {
    throw labelled(e, e instanceof SyntaxError ? 'syntax_error' : 'load_error');
  } finally {
    hooks.deregister();
  }
}

function labelled(e, code) {
  const err = e !== null && typeof e === 'object' ? explain(e) : new Error(String(e));
  try { Object.defineProperty(err, 'bulkheadCode', { value: code, configurable: true }); } catch { /* frozen: no label */ }
  return err;
}

/** What the cell is told of an error, which may be anything that can be thrown:
 * bounded, and of the right types. The cell bounds it again. */
function loadError(e) {
  const d = describe(e, 400, 'The code cannot be loaded.');
  return {
    __proto__: null, // nor has the code's Object.prototype a say
    status: 400, code: codeOf(e),
    message: P.slice(d.message || d.details || d.error, 0, 4096),
    stack: d.stack === undefined ? undefined : P.slice(d.stack, 0, 16384),
  };
}

function codeOf(e) {
  try {
    const code = word(P.String(e.bulkheadCode ?? e.code));
    return code === '' || code === 'undefined' ? 'load_error' : code;
  } catch { return 'load_error'; }
}

/** The first 64 letters, digits and underscores of s. */
function word(s) {
  let out = '';
  for (let i = 0; i < s.length && i < 1024 && out.length < 64; i++) {
    const c = s[i];
    if (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c === '_') out += c;
  }
  return out;
}

module.exports = { load, loadError, ROOT };
