'use strict';
// The npm packages that tests use, as ./packages and ./modules pin them.

const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { execFileSync } = require('node:child_process');

/** A directory with the packages of ./packages, or another list, installed, kept
 * between runs; undefined when npm can't get them here. */
function packages(list = 'packages') {
  const from = path.join(__dirname, list), lock = fs.readFileSync(path.join(from, 'package-lock.json'));
  const name = `${list}-${crypto.createHash('sha256').update(lock).digest('hex').slice(0, 12)}`;
  const dir = path.join(process.env.BULKHEAD_CACHE ?? path.join(os.homedir(), '.cache/bulkhead/image'), name);
  if (fs.existsSync(path.join(dir, 'done'))) return dir;
  const fresh = `${dir}.${process.pid}`; // test files run side by side
  fs.cpSync(from, fresh, { recursive: true });
  try {
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--silent'], { cwd: fresh, stdio: 'pipe' });
    fs.writeFileSync(path.join(fresh, 'done'), '');
    fs.renameSync(fresh, dir);
  } catch { // npm can't get them, or another was first
    fs.rmSync(fresh, { recursive: true });
  }
  return fs.existsSync(path.join(dir, 'done')) ? dir : undefined;
}

module.exports = { packages };
