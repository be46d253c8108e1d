// Talks to the service this page came from, and to nothing else. docs/serve.md describes the routes.

const ATTEMPTS = 20; // of a request that the service is too busy for

let key = ""; // in memory only: gone with the page
let askForKey = async () => null;

/** What went wrong: the service's own words, and a `code` that the page has words for. */
export class Problem extends Error {
  constructor(message, code = "", status = 0) {
    super(message);
    Object.assign(this, { code, status });
  }
}

/** Tell how to get a key from the person: a function that gives it, or null. */
export function setKeyPrompt(prompt) {
  askForKey = prompt;
}

/** Ask one route and return its response; retries when busy, asks for a key when it needs one. */
export async function ask(path, { signal, onWait, ...options } = {}) {
  return persist(async () => {
    const response = await fetch(path, { ...options, signal, headers: headers() }).catch((error) => {
      throw error.name === "AbortError" ? error : new Problem("", "lost");
    });
    if (!response.ok) throw await problemOf(response.status, await response.text(), response.headers);
    return response;
  }, { signal, onWait });
}

/**
 * Send a file to be judged, and return the job.
 * onSent is told the share of bytes sent, onWait the seconds until the next attempt.
 */
export async function send(file, fields, { signal, onSent, onWait }) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
  form.append("file", file, file.name || "picture");
  return persist(() => post("v1/predictions", form, { signal, onSent }), { signal, onWait });
}

/** Follow a job to its end; onChange is told each state. Asks again where the stream breaks. */
export async function follow(job, { signal, onChange }) {
  while (!isOver(job)) {
    try {
      for await (const state of events(job.links.events, signal)) onChange((job = state));
    } catch (error) {
      if (error.name === "AbortError" || error instanceof Problem) throw error;
    }
    if (!isOver(job)) {
      await pause(1, signal);
      job = await (await ask(job.links.self, { signal })).json();
    }
  }
  if (job.status === "failed") throw new Problem(job.error.detail, job.error.code, job.error.status);
  if (job.status === "cancelled") throw new Problem("", "stopping");
  return job;
}

/** Have a job forgotten, also while the page is being closed. */
export function forget(job) {
  fetch(job.links.self, { method: "DELETE", headers: headers(), keepalive: true }).catch(() => {});
}

export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("cancelled", "AbortError"));
    }, { once: true });
  });
}

const isOver = (job) => ["done", "failed", "cancelled"].includes(job.status);
const headers = () => (key ? { Authorization: `Bearer ${key}` } : {});

async function persist(attempt, { signal, onWait }) {
  for (let number = 1; ; number += 1) {
    const used = key;
    try {
      return await attempt();
    } catch (error) {
      if (error.code === "busy" && number < ATTEMPTS) await countDown(error.wait, signal, onWait);
      else if (error.code === "key_needed") await renewKey(used, error);
      else throw error;
    }
  }
}

async function countDown(seconds, signal, onWait) {
  for (let left = seconds; left > 0; left -= 1) {
    onWait?.(left);
    await pause(Math.min(1, left), signal);
  }
}

let asking = null; // several files that need a key share one question

async function renewKey(used, error) {
  if (key !== used) return; // refused was a key that has been replaced since
  asking ??= askForKey(Boolean(key)).finally(() => { asking = null; });
  const answer = await asking;
  if (!answer) throw new Problem(error.message, "key_needed", 401);
  key = answer;
}

/** fetch does not tell how much was sent, the older interface does. */
function post(path, form, { signal, onSent }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open("POST", path);
    for (const [name, value] of Object.entries({ ...headers(), Accept: "application/json" })) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => onSent?.(event.loaded / event.total);
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onerror = () => reject(new Problem("", "unsent"));
    request.onload = async () => {
      const said = { get: (name) => request.getResponseHeader(name) };
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(await problemOf(request.status, request.responseText, said));
    };
    request.onloadend = () => signal?.removeEventListener("abort", stop);
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) request.abort();
    request.send(form);
  });
}

async function problemOf(status, text, said) {
  let told = {};
  try {
    told = JSON.parse(text);
  } catch { /* a server in between answered with a page of its own */ }
  const message = told.detail ?? `the service answered ${status}`;
  const problem = new Problem(message, told.code ?? (status === 429 ? "busy" : ""), status);
  problem.wait = Math.max(1, Math.min(60, Number(said.get("Retry-After")) || 2));
  return problem;
}

/** Server-sent events; the browser's own EventSource cannot send the key. */
async function* events(path, signal) {
  const response = await ask(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (held + value).replaceAll("\r\n", "\n").split("\n\n");
      held = parts.pop();
      yield* parts.map(jobOf).filter(Boolean);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function jobOf(event) {
  const data = event.split("\n").filter((line) => line.startsWith("data:"));
  return data.length ? JSON.parse(data.map((line) => line.slice(5)).join("\n")) : null;
}
