// openai-node: chat, responses, embeddings, models, errors.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: `${process.env.AI_PROXY_URL}/v1`, apiKey: process.env.AI_PROXY_API_KEY });
const ask = { model: "mock", messages: [{ role: "user", content: "ping" }] };

test("a question is answered", async () => {
  const completion = await client.chat.completions.create(ask);

  assert.match(completion.choices[0].message.content, /ping/);
  assert.ok(completion._request_id);
});

test("an answer is streamed", async () => {
  const stream = client.chat.completions.stream({ ...ask, stream_options: { include_usage: true } });

  const completion = await stream.finalChatCompletion();

  assert.match(completion.choices[0].message.content, /ping/);
  assert.ok(completion.usage.total_tokens > 0);
});

test("an answer is parsed by a schema", async () => {
  const format = zodResponseFormat(z.object({ city: z.string() }), "capital");

  const completion = await client.chat.completions.parse({ ...ask, response_format: format });

  assert.equal(typeof completion.choices[0].message.parsed.city, "string");
});

test("a tool is run and its result leads to an answer", async () => {
  const calls = [];
  const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
  const weather = { name: "get_weather", parameters, parse: JSON.parse, function: (given) => calls.push(given) && "sunny" };
  const question = [{ role: "user", content: "What is the weather in Paris?" }];

  const runner = client.chat.completions.runTools({
    model: "mock",
    messages: question,
    tools: [{ type: "function", function: weather }],
  });

  assert.ok(await runner.finalContent());
  assert.equal(calls.length, 1);
});

test("a response is made, streamed, found again and deleted", async () => {
  const whole = await client.responses.create({ model: "mock", input: "ping" });
  const streamed = await client.responses.stream({ model: "mock", input: "ping" }).finalResponse();

  assert.match(whole.output_text, /ping/);
  assert.equal(streamed.output_text, whole.output_text);
  assert.equal((await client.responses.retrieve(whole.id)).id, whole.id);
  await client.responses.delete(whole.id);
  await assert.rejects(client.responses.retrieve(whole.id), OpenAI.NotFoundError);
});

test("models are listed and texts are embedded", async () => {
  const models = await client.models.list();
  const answer = await client.embeddings.create({ model: "mock", input: ["one", "two"] });

  assert.ok(models.data.length > 0);
  assert.equal(answer.data.length, 2);
  assert.equal(typeof answer.data[0].embedding[0], "number");
});

test("errors have their classes", async () => {
  const refused = () => client.chat.completions.create({ ...ask, model: "mock/error-429" }, { maxRetries: 0 });
  const unknown = () => client.models.retrieve("no-such-model");
  const stranger = new OpenAI({ baseURL: client.baseURL, apiKey: "aip_wrong" });

  await assert.rejects(refused, (error) => error instanceof OpenAI.RateLimitError && Boolean(error.requestID));
  await assert.rejects(unknown, /The model .* does not exist/);
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});

test("a stream that breaks off is an error", async () => {
  const stream = await client.chat.completions.create({ ...ask, model: "mock/cut", stream: true });
  const pieces = [];

  const read = async () => {
    for await (const chunk of stream) pieces.push(chunk);
  };

  await assert.rejects(read(), OpenAI.APIError);
  assert.ok(pieces.length > 0);
});
