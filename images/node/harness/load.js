'use strict';
// Turns a function's source into what it exports. CommonJS runs as Node would
// run it, with a top-level `return` allowed; ES modules are told by their
// file's ending or by their syntax; TypeScript loses its types first.

const vm = require('node:vm');
const path = require('node:path');
const { Module, createRequire, registerHooks, stripTypeScriptTypes } = require('node:module');
const { pathToFileURL } = require('node:url');

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
  const err = e !== null && typeof e === 'object' ? e : new Error(String(e));
  try { Object.defineProperty(err, 'bulkheadCode', { value: code, configurable: true }); } catch { /* frozen: no label */ }
  return err;
}

module.exports = { load, ROOT };
