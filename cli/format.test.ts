import test from "ava";
import { isCode } from "../base/errors.ts";
import { alignColumns, compileTemplate, formatRows } from "./format.ts";

const render = (template: string, data: unknown): string => compileTemplate(template)(data);

test("fields, nested fields, literals and text", (t) => {
  t.is(render("a {{.Name}} b {{.Config.User}}", { Name: "x", Config: { User: "web" } }), "a x b web");
  t.is(render("{{.}}", "dot"), "dot");
  t.is(render('{{"a}}b"}}{{`c`}}{{7}}', {}), "a}}bc7");
  t.is(render("{{.Absent}}", {}), "<no value>");
  t.is(render("{{.L}} {{.M}}", { L: ["a", 1], M: { b: 2, a: 1 } }), "[a 1] map[a:1 b:2]");
});

test("functions, pipelines, parentheses", (t) => {
  t.is(render("{{json .Env}}", { Env: ["A=1"] }), '["A=1"]');
  t.is(render('{{join .Env ","}}', { Env: ["a", "b"] }), "a,b");
  t.is(render('{{.Name | upper | printf "%-5s|%03d|" .N | len}}', { Name: "x", N: 7 }), "10");
  t.is(render('{{printf "%-5s|%03d" .Name .N}}', { Name: "x", N: 7 }), "x    |007");
  t.is(render('{{index .Labels "a.b/c"}}', { Labels: { "a.b/c": "v" } }), "v");
  t.is(render('{{(index .List 1).Name}}', { List: [{}, { Name: "n" }] }), "n");
  t.is(render('{{printf "%q %5.2f" "a" 1.5}}', {}), '"a"  1.50');
  t.is(render("{{slice .Id 7 10}}", { Id: "sha256:abcdef" }), "abc");
});

test("conditions, loops, with, variables, trimming", (t) => {
  t.is(render("{{if .A}}yes{{else if .B}}b{{else}}no{{end}}", { A: "", B: 1 }), "b");
  t.is(render('{{if and (eq .A 1) (not .B)}}x{{end}}', { A: 1, B: false }), "x");
  t.is(render("{{range .L}}<{{.}}>{{else}}none{{end}}", { L: [1, 2] }), "<1><2>");
  t.is(render("{{range .L}}{{.}}{{else}}none{{end}}", { L: [] }), "none");
  t.is(render("{{range $k, $v := .M}}{{$k}}={{$v}}{{$.End}}{{end}}", { M: { b: 2, a: 1 }, End: ";" }), "a=1;b=2;");
  t.is(render("{{with .A}}{{.B}}{{end}}", { A: { B: "c" } }), "c");
  t.is(render("{{$x := .A}}{{$x}}", { A: 3 }), "3");
  t.is(render("a  {{- .A -}}  b", { A: 1 }), "a1b");
});

test("wrong templates say what is wrong", (t) => {
  for (const [template, message] of [["{{.A", /not closed/], ["{{if .A}}", /no \{\{end\}\}/], ["{{end}}", /without a beginning/], ["{{foo .A}}", /no function "foo"; there are json/], ["{{(.A}}", /not closed/], ["{{$x}}", /no variable \$x/], ["{{}}", /empty/], ["{{.A .B}}", /only functions/]] as const) {
    const error = t.throws(() => render(template, {}), undefined, template);
    t.true(isCode(error, "BadRequest"));
    t.regex(error?.message ?? "", message);
  }
});

test("rows: as a table, by a template, as JSON; an unknown field lists the known ones", (t) => {
  const rows = [{ Repository: "busybox", Tag: "latest" }, { Repository: "a-rather-long-name", Tag: "v1" }];
  const format = { headings: { Repository: "REPOSITORY", Tag: "TAG" }, table: "{{.Repository}}\t{{.Tag}}" };
  t.is(formatRows("", rows, format), "REPOSITORY           TAG\nbusybox              latest\na-rather-long-name   v1");
  t.is(formatRows("table {{.Tag}}\\t{{.Repository}}", rows, format), "TAG       REPOSITORY\nlatest    busybox\nv1        a-rather-long-name");
  t.is(formatRows("{{.Repository}}:{{.Tag}}", rows, format), "busybox:latest\na-rather-long-name:v1");
  t.is(formatRows("json", rows.slice(0, 1), format), '{"Repository":"busybox","Tag":"latest"}');
  t.regex(t.throws(() => formatRows("{{.Nope}}", rows, format))?.message ?? "", /no field \.Nope; there are \.Repository, \.Tag/);
  t.is(alignColumns(["a\tb", "c\td"]), "a         b\nc         d");
});
