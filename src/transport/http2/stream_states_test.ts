/** What each frame does to a stream in each of its states, and that the connection goes on serving. */

import assert from "node:assert/strict";
import { request, serve, type Served, stop } from "./test_served.ts";
import { F, frame, settle, T, TRAILER_BLOCK, uint32 } from "./test_support.ts";

const OPEN_FLAGS = F.END_HEADERS;
const END_FLAGS = F.END_HEADERS | F.END_STREAM;

// RFC 9113 section 5.1, as a server sees it: what each frame does in each state.
type State = keyof typeof STATES;
const STATES = {
  idle: () => {},
  open: (server: Served) => server.peer.send(request(1, OPEN_FLAGS)),
  "half-closed (remote)": (server: Served) => server.peer.send(request(1)),
  "half-closed (local)": async (server: Served) => {
    server.peer.send(request(1, OPEN_FLAGS));
    await settle();
    server.streams[0]!.sendHeaders([[":status", "200"]], true);
  },
  "closed by END_STREAM": async (server: Served) => {
    server.peer.send(request(1));
    await settle();
    server.streams[0]!.sendHeaders([[":status", "200"]], true);
  },
  "closed by our reset": async (server: Served) => {
    server.peer.send(request(1, OPEN_FLAGS));
    await settle();
    server.streams[0]!.reset(8);
  },
  "closed by the peer's reset": (server: Served) =>
    server.peer.send(request(1, OPEN_FLAGS), frame(T.RST_STREAM, 0, 1, uint32(8))),
};

const EVENTS = {
  DATA: frame(T.DATA, 0, 1, [1]),
  "DATA with END_STREAM": frame(T.DATA, F.END_STREAM, 1, [1]),
  "HEADERS with END_STREAM": frame(T.HEADERS, END_FLAGS, 1, TRAILER_BLOCK),
  "HEADERS without END_STREAM": frame(T.HEADERS, OPEN_FLAGS, 1, TRAILER_BLOCK),
  PRIORITY: frame(T.PRIORITY, 0, 1, [0, 0, 0, 3, 5]),
  RST_STREAM: frame(T.RST_STREAM, 0, 1, uint32(8)),
  WINDOW_UPDATE: frame(T.WINDOW_UPDATE, 0, 1, uint32(1000)),
  "WINDOW_UPDATE of 0": frame(T.WINDOW_UPDATE, 0, 1, uint32(0)),
  "WINDOW_UPDATE over 2^31 - 1": frame(T.WINDOW_UPDATE, 0, 1, uint32(0x7fffffff)),
};

// Codes: 1 PROTOCOL_ERROR, 3 FLOW_CONTROL_ERROR, 5 STREAM_CLOSED.
const OUTCOMES: Record<State, string[]> = {
  idle: [
    "goaway 1",
    "goaway 1",
    "reset 1 1",
    "reset 1 1",
    "ok",
    "goaway 1",
    "goaway 1",
    "goaway 1",
    "goaway 1",
  ],
  open: ["ok", "ok", "ok", "reset 1 1", "ok", "ok", "ok", "reset 1 1", "reset 1 3"],
  "half-closed (remote)": [
    "reset 1 5",
    "reset 1 5",
    "reset 1 5",
    "reset 1 5",
    "ok",
    "ok",
    "ok",
    "reset 1 1",
    "reset 1 3",
  ],
  "half-closed (local)": [
    "ok",
    "ok",
    "ok",
    "reset 1 1",
    "ok",
    "ok",
    "ok",
    "reset 1 1",
    "reset 1 3",
  ],
  "closed by END_STREAM": [
    "reset 1 5",
    "reset 1 5",
    "goaway 5",
    "goaway 5",
    "ok",
    "ok",
    "ok",
    "ok",
    "ok",
  ],
  "closed by our reset": ["ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"],
  "closed by the peer's reset": [
    "reset 1 5",
    "reset 1 5",
    "goaway 5",
    "goaway 5",
    "ok",
    "ok",
    "ok",
    "ok",
    "ok",
  ],
};

for (const state of Object.keys(STATES) as State[]) {
  Object.entries(EVENTS).forEach(([event, bytes], i) => {
    Deno.test(`a stream that is ${state} answers ${event} with: ${OUTCOMES[state][i]}`, async () => {
      const server = await serve();
      await STATES[state](server);
      await server.peer.receive();
      server.peer.send(bytes);
      assert.equal(await server.peer.outcome(), OUTCOMES[state][i]);
      // Whatever happened, a connection that was not ended still serves.
      if (!OUTCOMES[state][i]!.startsWith("goaway")) {
        const before = server.requests.length;
        server.peer.send(request(3));
        assert.equal(await server.peer.outcome(), "ok");
        assert.equal(server.requests.length, before + 1);
      }
      await stop(server);
    });
  });
}
