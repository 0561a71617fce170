// The web-standard model: a Request in, a Response out; this one streams.
export default {
  async fetch(request) {
    const { searchParams } = new URL(request.url);
    const count = Number(searchParams.get('count') ?? 3);
    const encoder = new TextEncoder();
    const body = new ReadableStream({
      async start(controller) {
        for (let i = count; i > 0; i--) controller.enqueue(encoder.encode(`${i}\n`));
        controller.enqueue(encoder.encode('lift-off\n'));
        controller.close();
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/plain' } });
  },
};
