// The `openai` npm package against the server: prints one JSON object. Usage: node client.mjs BASE_URL
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any", maxRetries: 0 });
const asked = { model: "my-model", messages: [{ role: "user", content: "How do I boil an egg?" }] };
const plain = await client.chat.completions.create(asked);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...asked, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
let refused = null;
try {
  await client.chat.completions.create({ ...asked, model: "nobody" });
} catch (error) {
  refused = { status: error.status, code: error.code };
}
console.log(JSON.stringify({ plain: plain.choices[0].message.content, streamed, refused }));
