// Builds a plugin, in the project's folder: node sdk/build.mjs OUTPUT.wasm [--engine starlingmonkey]
//
// It installs what package.json pins, bundles src/index.ts or src/index.js, has tsc check the types
// where there is a tsconfig.json, and makes a component of the world in wit/.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { linesOf } from './source-map.mjs';
import { frames } from './src/trace.js';

/** What the author has to mend: only its text is shown. */
class Failure extends Error {}

const SDK = dirname(fileURLToPath(import.meta.url));
const ENTRY = ['src/index.ts', 'src/index.js'];
const WORLD = 'wit/world.wit';
const SCRATCH = 'build/.js';

// componentize-qjs 0.4.5 cannot evaluate a module whose world has wasi:http: it links that to its own
// `wasi:io` and fails with `mismatched resource types`. Under another name of the same length it is
// not linked at all, and the finished component gets the true name.
const TRUE_NAME = /\bwasi:(?=http\b|io\b|clocks\b)/g;
const OTHER_NAME = 'wqzi:';

const [output, flag, engine = 'quickjs'] = process.argv.slice(2);

/** This build's own folder, in the project: what is in it finds the project's packages. */
let scratch;

try {
  if (!output?.endsWith('.wasm') || !(flag === undefined || flag === '--engine') || !['quickjs', 'starlingmonkey'].includes(engine)) {
    throw new Failure('usage: node sdk/build.mjs OUTPUT.wasm [--engine quickjs|starlingmonkey]');
  }
  if (!existsSync(WORLD)) throw new Failure(`${WORLD} is missing: run \`jackfield wit\``);
  await install();
  scratch = makeScratch();
  // The types are checked while the bundle becomes a component.
  const [component] = await Promise.all([makeComponent(await bundle()), checkTypes()]);
  // By a rename, so that whoever watches the file never reads half of it.
  const written = `${output}.${process.pid}.new`;
  mkdirSync(dirname(output), { recursive: true });
  writeFileSync(written, component);
  renameSync(written, output);
} catch (error) {
  console.error(error instanceof Failure ? error.message : error);
  process.exit(1);
}

function makeScratch() {
  mkdirSync(SCRATCH, { recursive: true });
  // A build that was killed has left its folder.
  for (const name of readdirSync(SCRATCH)) {
    if (!isRunning(parseInt(name, 10))) rmSync(join(SCRATCH, name), { recursive: true, force: true });
  }
  const folder = mkdtempSync(join(SCRATCH, `${process.pid}-`));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function isRunning(pid) {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM'; // somebody else's
  }
}

/** Installs what package.json names, the first time and when it has changed. */
async function install() {
  const mark = 'node_modules/.jackfield-sdk';
  const digest = createHash('sha256').update(readFileSync('package.json')).digest('hex');
  if (existsSync(mark) && readFileSync(mark, 'utf8') === digest) return;
  console.error('installing what package.json names ...');
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
  const { code, said } = await run(npm, ['install', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error']);
  if (code !== 0) throw new Failure(`npm install failed:\n${said}`);
  writeFileSync(mark, digest);
}

async function checkTypes() {
  if (!existsSync('tsconfig.json')) return;
  const { code, said } = await run(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit', '--pretty', String(Boolean(process.stderr.isTTY))]);
  if (code !== 0) throw new Failure(said);
}

/** All modules as one, with its source map, and the interfaces that it imports. */
async function bundle() {
  const entry = ENTRY.find(existsSync);
  if (!entry) throw new Failure(`there is neither ${ENTRY.join(' nor ')}`);
  const { default: esbuild } = await fromProject('esbuild');
  // The globals come first: the author's modules are to find them.
  const main = `
    import ${quoted('src/globals.js')};
    import plugin from ${JSON.stringify(`./${entry}`)};
    import { exportsOf } from ${quoted('src/plugin.js')};
    export const { handler, lifecycle, callHandler, timerHandler } = exportsOf(plugin);
  `;
  const built = await esbuild.build({
    stdin: { contents: main, resolveDir: process.cwd(), sourcefile: 'sdk/main.js' },
    bundle: true,
    write: false,
    metafile: true,
    outfile: 'plugin.js',
    format: 'esm',
    platform: 'browser',
    target: 'es2023',
    charset: 'utf8',
    sourcemap: 'external',
    sourcesContent: false,
    external: ['jackfield:*', 'wasi:*'],
    define: { JACKFIELD_ENGINE: JSON.stringify(engine) },
    // Of QuickJS's own promises none goes on: `async` becomes generators over those of the SDK.
    supported: engine === 'quickjs' ? { 'async-await': false, 'async-generator': false, 'for-await': false } : {},
    logLevel: 'silent',
  }).catch(async ({ errors, message }) => {
    const said = await esbuild.formatMessages(errors ?? [{ text: message }], { kind: 'error', color: Boolean(process.stderr.isTTY) });
    throw new Failure(said.join('').trim());
  });
  const [map, code] = built.outputFiles;
  const { sources, mappings } = JSON.parse(map.text);
  // The SDK's own frames are known by this name, wherever it is.
  const files = sources.map((file) => (resolve(file).startsWith(`${SDK}/`) ? `sdk/${relative(SDK, file)}` : file));
  const imports = built.metafile.outputs['plugin.js'].imports.map(({ path }) => path);
  return { code: code.text, sources: { files, lines: linesOf(mappings) }, imports };
}

async function makeComponent({ code, sources, imports }) {
  const witPath = world(imports);
  const source = `${code}\nglobalThis[Symbol.for('jackfield-sdk/sources')] = ${JSON.stringify(sources)};\n`;
  try {
    if (engine === 'quickjs') {
      const { componentize } = await fromProject('componentize-qjs');
      const jsSource = source.replaceAll("'wasi:http/", `'${OTHER_NAME}http/`).replaceAll('"wasi:http/', `"${OTHER_NAME}http/`);
      const { component } = await componentize({ jsSource, witPath, world: 'built', sync: true, optSize: true });
      for (let at = 0; (at = component.indexOf(OTHER_NAME, at)) >= 0; ) at += component.write('wasi:', at);
      return component;
    }
    const { componentize } = await fromProject('@bytecodealliance/componentize-js');
    const disableFeatures = imports.some((name) => name.startsWith('wasi:http/')) ? [] : ['http', 'fetch-event'];
    const { component } = await componentize(source, { sourceName: 'plugin.js', witPath, worldName: 'built', disableFeatures });
    return component;
  } catch (error) {
    // What a module does at its top level runs now.
    const stack = frames(error.message, sources).map((frame) => `\n    at ${frame}`);
    const [text] = error.message.replace(/^[^]*? module evaluation: /, '').split('\n    at ');
    throw new Failure(text + stack.join(''));
  }
}

/** The project's world and what the SDK itself needs of WASI, in a folder of this build. */
function world(imports) {
  const text = readFileSync(WORLD, 'utf8');
  for (const [prefix, grant] of [['wasi:keyvalue/', '[keyvalue] with buckets = ["default"]'], ['wasi:http/', '[http] with allow = ["https://HOST"]']]) {
    if (imports.some((name) => name.startsWith(prefix)) && !text.includes(prefix)) {
      throw new Failure(`${WORLD} does not import ${prefix}…: write ${grant} into the plugin's manifest, and run \`jackfield wit\``);
    }
  }
  const folder = join(scratch, 'wit');
  cpSync('wit', folder, { recursive: true });
  if (engine === 'quickjs') {
    for (const file of readdirSync(folder, { recursive: true })) {
      const path = join(folder, file);
      if (path.endsWith('.wit')) writeFileSync(path, readFileSync(path, 'utf8').replace(TRUE_NAME, OTHER_NAME));
    }
  }
  cpSync(join(SDK, 'wasi'), join(folder, 'deps'), { recursive: true });
  // stdout and exit are for plugins that import them by themselves.
  const own = ['random/random', 'clocks/monotonic-clock', 'cli/stdout', 'cli/stderr', 'cli/exit'];
  const uses = own.map((name) => `  import wasi:${name}@0.2.0;\n`);
  const [, name] = /^world\s+([\w-]+)/m.exec(text);
  const [, project] = /^package\s+([^;\s]+)/m.exec(text);
  writeFileSync(join(folder, 'built.wit'), `package ${project};\n\nworld built {\n  include ${name};\n${uses.join('')}}\n`);
  return folder;
}

/** A package of the project's, wherever the SDK itself is: a module in the project's folder imports it. */
async function fromProject(name) {
  const importer = resolve(scratch, 'import.mjs');
  writeFileSync(importer, 'export default (name) => import(name);\n');
  const { default: importFromHere } = await import(pathToFileURL(importer).href);
  return importFromHere(name);
}

function quoted(file) {
  return JSON.stringify(join(SDK, file));
}

function run(command, args) {
  return new Promise((done) => {
    const child = spawn(command, args);
    const said = [];
    child.stdout.on('data', (part) => said.push(part));
    child.stderr.on('data', (part) => said.push(part));
    child.on('error', (error) => done({ code: 1, said: error.message }));
    child.on('close', (code) => done({ code, said: Buffer.concat(said).toString().trim() }));
  });
}
