// Webtask's second model: a context and a callback. Query parameters are in
// ctx.query; what console.log says, `bulkhead logs` shows.
module.exports = function (ctx, cb) {
  const name = ctx.query.name || 'world';
  console.log(`greeting ${name}`);
  cb(null, { hello: name });
};
