// Vercel's AI SDK: ai with @ai-sdk/openai-compatible.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateObject, generateText, isStepCount, Output, streamText, tool } from "ai";
import { z } from "zod";

const baseURL = `${process.env.AI_PROXY_URL}/v1`;
const apiKey = process.env.AI_PROXY_API_KEY;
const settings = { name: "ai-proxy", baseURL, apiKey, includeUsage: true };
const proxy = createOpenAICompatible({ ...settings, supportsStructuredOutputs: true });
const loose = createOpenAICompatible(settings);
const capital = z.object({ city: z.string(), inhabitants: z.number().int() });
const weather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => ({ city, sky: "clear" }),
});

test("a question is answered", async () => {
  const { text, usage, finishReason } = await generateText({ model: proxy("mock"), prompt: "ping" });

  assert.match(text, /ping/);
  assert.equal(finishReason, "stop");
  assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0);
});

test("an answer is streamed", async () => {
  const result = streamText({ model: proxy("mock"), prompt: "ping" });
  const pieces = [];

  for await (const piece of result.textStream) pieces.push(piece);

  assert.ok(pieces.length > 1);
  assert.match(pieces.join(""), /ping/);
  assert.equal(await result.finishReason, "stop");
  assert.ok((await result.usage).outputTokens > 0);
});

test("an object follows its schema", async () => {
  const { object } = await generateObject({ model: proxy("mock"), schema: capital, prompt: "ping" });

  assert.ok(capital.safeParse(object).success);
});

test("an output of generateText and streamText follows its schema", async () => {
  const output = Output.object({ schema: capital });
  const whole = await generateText({ model: proxy("mock"), output, prompt: "ping" });
  const streamed = streamText({ model: proxy("mock"), output, prompt: "ping" });

  assert.ok(capital.safeParse(whole.output).success);
  assert.ok(capital.safeParse(await streamed.output).success);
});

test("a tool is called and its result leads to an answer", async () => {
  const { text, steps } = await generateText({
    model: proxy("mock"),
    tools: { weather },
    stopWhen: isStepCount(3),
    prompt: "What is the weather in Paris?",
  });

  assert.equal(steps[0].finishReason, "tool-calls");
  assert.deepEqual(steps[0].toolResults[0].output.sky, "clear");
  assert.ok(text);
});

test("a tool is called in a stream", async () => {
  const result = streamText({ model: proxy("mock"), tools: { weather }, toolChoice: "required", prompt: "ping" });

  const calls = await result.toolCalls;

  assert.equal(calls.length, 1);
  assert.equal(calls[0].toolName, "weather");
  assert.equal(typeof calls[0].input.city, "string");
});

test("a prompt is completed by the old endpoint", async () => {
  const { text } = await generateText({ model: proxy.completionModel("mock"), prompt: "ping" });

  assert.ok(text);
});

test("texts are embedded", async () => {
  const { embeddings } = await embedMany({ model: proxy.embeddingModel("mock"), values: ["one", "two"] });

  assert.equal(embeddings.length, 2);
  assert.equal(embeddings[0].length, embeddings[1].length);
});

test("a model may be asked without usage and without structured outputs", async () => {
  const { text } = await generateText({ model: loose("mock"), prompt: "ping" });

  assert.match(text, /ping/);
});

test("an error keeps its message and its status", async () => {
  const ask = (model, provider = proxy) => generateText({ model: provider(model), prompt: "ping", maxRetries: 0 });
  const stranger = createOpenAICompatible({ ...settings, apiKey: "aip_wrong" });

  await assert.rejects(ask("mock/error-429"), (error) => APICallError.isInstance(error) && error.statusCode === 429);
  await assert.rejects(ask("mock/error-400"), (error) => error.statusCode === 400 && !error.isRetryable);
  await assert.rejects(ask("mock", stranger), (error) => error.statusCode === 401 && /key/.test(error.message));
});

test("a stream that breaks off reports an error", async () => {
  const parts = [];
  const result = streamText({ model: proxy("mock/cut"), prompt: "ping", onError: () => {} });

  for await (const part of result.stream) parts.push(part.type);

  assert.ok(parts.includes("text-delta"));
  assert.ok(parts.includes("error"));
});
