// Completion of table and column names in a query editor. The names come from the hub; they are shown as text.
import * as CM from "nicegui-codemirror";

/** id: of the element that holds the editor. tables: name → names of columns. words: of the language. */
export async function complete(id, tables, words) {
  const holder = getElement(id);
  if (!holder.editor) await holder.editorPromise;
  const tableOptions = Object.keys(tables).map((label) => ({ label, type: "class", detail: "table", boost: 1 }));
  const wordOptions = words.map((label) => ({ label, type: "keyword" }));
  const all = new Set(Object.values(tables).flat());

  function source(context) {
    const word = context.matchBefore(/\w+/);
    if (!word && !context.explicit) return null;
    const text = context.state.doc.toString();
    const named = Object.keys(tables).filter((name) => new RegExp(`\\b${name}\\b`).test(text));
    const columns = named.length ? new Set(named.flatMap((name) => tables[name])) : all;
    const columnOptions = [...columns].map((label) => ({ label, type: "property", detail: "column" }));
    return {
      from: word ? word.from : context.pos,
      options: [...tableOptions, ...columnOptions, ...wordOptions],
      validFor: /^\w*$/,
    };
  }

  const data = CM.EditorState.languageData.of(() => [{ autocomplete: source }]);
  holder.editor.dispatch({ effects: CM.StateEffect.appendConfig.of(data) });
}
