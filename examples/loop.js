// A loop that never ends, for those who ask for it. Whoever asks is told where
// it was stopped; everybody else's requests are answered.

module.exports = (ctx, cb) => {
  if (ctx.query.forever === undefined) return cb(null, { done: true });
  for (let n = 0; ; n++) {
    if (n === -1) return cb(null, n);
  }
};
