// Globs of file names, well enough to guess whose file it is; the server decides.

/** Whether the name matches a glob with `*`, `?`, `[…]` and `{a,b}`. */
export function globMatches(glob, name) {
  try {
    return new RegExp(`^${translated(glob)}$`, 'su').test(name);
  } catch {
    return false;
  }
}

function translated(glob) {
  let depth = 0;
  return glob.replace(/\*+|\?|\[!?|\]|[{},]|[\\^$.|+()/-]/g, (token) => {
    if (token.startsWith('*')) return '.*';
    if (token === '?') return '.';
    if (token === '[' || token === ']' || token === '-') return token;
    if (token === '[!') return '[^';
    if (token === '{') {
      depth += 1;
      return '(?:';
    }
    if (token === '}' && depth > 0) {
      depth -= 1;
      return ')';
    }
    if (token === ',') return depth > 0 ? '|' : ',';
    return `\\${token}`;
  });
}
