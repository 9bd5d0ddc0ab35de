// @anthropic-ai/sdk: messages, tools, tokens, models, errors.
import assert from "node:assert/strict";
import { test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.env.AI_PROXY_URL, apiKey: process.env.AI_PROXY_API_KEY });
const ask = { model: "mock", max_tokens: 100, messages: [{ role: "user", content: "ping" }] };

test("a question is answered", async () => {
  const message = await client.messages.create(ask);

  assert.match(message.content[0].text, /ping/);
  assert.ok(message._request_id);
});

test("an answer is streamed", async () => {
  const pieces = [];
  const stream = client.messages.stream(ask).on("text", (text) => pieces.push(text));

  const message = await stream.finalMessage();

  assert.ok(pieces.length > 1);
  assert.equal(message.content[0].text, pieces.join(""));
  assert.ok(message.usage.output_tokens > 0);
});

test("a tool is called in a stream", async () => {
  const input_schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const tools = [{ name: "get_weather", input_schema }];

  const message = await client.messages.stream({ ...ask, tools, tool_choice: { type: "any" } }).finalMessage();

  assert.equal(message.stop_reason, "tool_use");
  assert.equal(typeof message.content.at(-1).input.city, "string");
});

test("tokens are counted and models are listed", async () => {
  const counted = await client.messages.countTokens({ model: "mock", messages: ask.messages });
  const models = await client.models.list({ limit: 1000 });

  assert.ok(counted.input_tokens > 0);
  assert.ok(models.data.length > 0);
});

test("errors have their classes", async () => {
  const refused = client.messages.create({ ...ask, model: "mock/error-429" }, { maxRetries: 0 });
  const stranger = new Anthropic({ baseURL: client.baseURL, apiKey: "aip_wrong" });

  await assert.rejects(refused, Anthropic.RateLimitError);
  await assert.rejects(stranger.messages.create(ask), Anthropic.AuthenticationError);
});

test("a stream that breaks off is an error", async () => {
  await assert.rejects(client.messages.stream({ ...ask, model: "mock/cut" }).finalMessage(), Anthropic.APIError);
});
