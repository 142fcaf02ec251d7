import type { FootnoteDefinition, List, ListItem, Nodes, Table } from "mdast";
import { type ComponentType, Fragment, type ReactNode } from "react";
import { CodeBlock } from "./code-block";
import { Diagram } from "./diagram";
import { type Footnotes, MARK } from "./footnotes";

/** The sources that `[1]` in a text may stand for: their ids, and what their cards' ids begin with. */
export interface Citations {
  ids: string[];
  anchor: string;
}

export interface Setting {
  /** The text still grows. */
  live: boolean;
  citations?: Citations;
  footnotes?: Footnotes;
  /** Sets formulas; they stand as they were written until it has been loaded. */
  Formula?: ComponentType<{ tex: string; display: boolean }>;
  /** It stands in a list or a quotation, whose direction it has. */
  inner?: boolean;
  /** Nothing is to be pressed or loaded: the text goes into a file. */
  plain?: boolean;
}

/** Each block's direction follows its own first letters; what stands within it goes with it. */
const directionOf = (setting: Setting) => (setting.inner ? undefined : "auto");

/** A Markdown tree as React elements. Raw HTML is shown as the text that it is. */
export function renderNode(node: Nodes, setting: Setting): ReactNode {
  switch (node.type) {
    case "root":
      return renderAll(node.children, setting);
    case "text":
      return annotate(node.value, setting);
    case "html":
      return node.value;
    case "paragraph":
      return <p dir={directionOf(setting)}>{renderAll(node.children, setting)}</p>;
    case "heading": {
      const Heading = `h${node.depth}` as const;
      return <Heading dir={directionOf(setting)}>{renderAll(node.children, setting)}</Heading>;
    }
    case "strong":
      return <strong>{renderAll(node.children, setting)}</strong>;
    case "emphasis":
      return <em>{renderAll(node.children, setting)}</em>;
    case "delete":
      return <del>{renderAll(node.children, setting)}</del>;
    case "inlineCode":
      return <code>{node.value}</code>;
    case "code":
      if (setting.plain) {
        return (
          <pre dir="ltr">
            <code>{node.value}</code>
          </pre>
        );
      }
      return node.lang?.toLowerCase() === "mermaid" && !setting.live ? (
        <Diagram source={node.value} />
      ) : (
        <CodeBlock code={node.value} language={node.lang || null} live={setting.live} />
      );
    case "blockquote":
      return (
        <blockquote dir={directionOf(setting)}>
          {renderAll(node.children, { ...setting, inner: true })}
        </blockquote>
      );
    // The texts of footnotes stand at the end, together.
    case "footnoteDefinition":
      return null;
    case "footnoteReference":
      return <Mark name={node.identifier} footnotes={setting.footnotes} />;
    case "break":
      return <br />;
    case "thematicBreak":
      return <hr />;
    case "list":
      return <ListOf list={node} setting={setting} />;
    case "table":
      return <TableOf table={node} setting={setting} />;
    case "link":
      return (
        <Away to={node.url}>{renderAll(node.children, { ...setting, citations: undefined })}</Away>
      );
    // A picture from elsewhere is neither loaded nor hidden: it becomes a link.
    case "image":
      return <Away to={node.url}>{node.alt || node.url}</Away>;
    case "inlineMath":
    case "math": {
      const { Formula } = setting;
      return Formula ? (
        <Formula tex={node.value} display={node.type === "math"} />
      ) : (
        <code>{node.value}</code>
      );
    }
    default:
      return "children" in node ? renderAll(node.children, setting) : null;
  }
}

function renderAll(nodes: Nodes[], setting: Setting): ReactNode {
  return nodes.map((node, i) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: a text grows only at its end
    <Fragment key={i}>{renderNode(node, setting)}</Fragment>
  ));
}

/** A link to elsewhere; an address of another kind than these, a script's say, is dropped. */
function Away({ to, children }: { to: string; children: ReactNode }) {
  const href = /^(https?:\/\/|mailto:)/i.test(to) ? to : undefined;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}

const MARKS = new RegExp(`(\\[\\d{1,2}\\]|${MARK.source.replace("(", "(?:")})`);

/** `[1]` becomes a link to the card of source 1, `[^1]` one to the footnote, where there is such a one. */
function annotate(text: string, { citations, footnotes }: Setting): ReactNode {
  if (!citations && !footnotes) return text;
  return text.split(MARKS).map((part, i) => {
    const id = citations && /^\[(\d+)\]$/.exec(part)?.[1];
    const note = footnotes && MARK.exec(part)?.[1]?.toLowerCase();
    // biome-ignore lint/suspicious/noArrayIndexKey: a text grows only at its end
    if (note && footnotes.numbers[note]) return <Mark key={i} name={note} footnotes={footnotes} />;
    if (!id || !citations.ids.includes(id)) return part;
    return (
      // biome-ignore lint/suspicious/noArrayIndexKey: a text grows only at its end
      <a key={i} href={`#${citations.anchor}-${id}`} className="citation">
        {id}
      </a>
    );
  });
}

/** The number that stands for a footnote in the text. */
function Mark({ name, footnotes }: { name: string; footnotes?: Footnotes }) {
  const number = footnotes?.numbers[name];
  if (!footnotes || !number) return `[^${name}]`;
  return (
    <sup>
      <a href={`#${footnotes.anchor}-${number}`} id={`${footnotes.anchor}-mark-${number}`}>
        {number}
      </a>
    </sup>
  );
}

/** The texts of footnotes, each with the way back to where it is referred to. */
export function FootnoteList({
  notes,
  setting,
  label,
  back,
}: {
  notes: FootnoteDefinition[];
  setting: Setting & { footnotes: Footnotes };
  label: string;
  back: (number: number) => string;
}) {
  const { anchor } = setting.footnotes;
  return (
    <section aria-label={label} className="footnotes">
      <ol>
        {notes.map((note, i) => (
          <li key={note.identifier} id={`${anchor}-${i + 1}`} dir="auto">
            {note.children.map((node, at) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: a text grows only at its end
              <Fragment key={at}>
                {node.type === "paragraph"
                  ? renderAll(node.children, setting)
                  : renderNode(node, { ...setting, inner: true })}{" "}
              </Fragment>
            ))}
            <a href={`#${anchor}-mark-${i + 1}`} aria-label={back(i + 1)}>
              ↩
            </a>
          </li>
        ))}
      </ol>
    </section>
  );
}

function ListOf({ list, setting }: { list: List; setting: Setting }) {
  const loose = list.spread || list.children.some((item) => item.spread);
  const items = list.children.map((item, i) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: a list grows only at its end
    <Item key={i} item={item} loose={loose} setting={{ ...setting, inner: true }} />
  ));
  const dir = directionOf(setting);
  return list.ordered ? (
    <ol start={list.start ?? 1} dir={dir}>
      {items}
    </ol>
  ) : (
    <ul dir={dir}>{items}</ul>
  );
}

function Item({ item, loose, setting }: { item: ListItem; loose: boolean; setting: Setting }) {
  const task = typeof item.checked === "boolean";
  return (
    <li className={task ? "task-list-item" : undefined}>
      {task && (
        <>
          <input type="checkbox" disabled checked={item.checked === true} />{" "}
        </>
      )}
      {item.children.map((node, i) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: an item grows only at its end
        <Fragment key={i}>
          {node.type === "paragraph" && !loose
            ? renderAll(node.children, setting)
            : renderNode(node, setting)}
        </Fragment>
      ))}
    </li>
  );
}

function TableOf({ table, setting }: { table: Table; setting: Setting }) {
  const [head, ...rows] = table.children;
  const cells = (row: typeof head, Cell: "th" | "td") =>
    row?.children.map((cell, i) => (
      // biome-ignore lint/suspicious/noArrayIndexKey: a row grows only at its end
      <Cell key={i} style={{ textAlign: table.align?.[i] ?? undefined }}>
        {renderAll(cell.children, setting)}
      </Cell>
    ));
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: wide tables are scrolled by keyboard too
    <div className="scroll-quiet my-4 overflow-x-auto rounded-xl border" tabIndex={0}>
      <table dir={directionOf(setting)}>
        <thead>
          <tr>{cells(head, "th")}</tr>
        </thead>
        <tbody>
          {rows.map((row, i) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: a table grows only at its end
            <tr key={i}>{cells(row, "td")}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
