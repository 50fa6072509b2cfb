package statuspage

import (
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func TestMarkdown(t *testing.T) {
	ok := func(in, want string) {
		t.Helper()
		got, err := markdown(in)
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	ok("a **b** _c_ `d`", "<p>a <strong>b</strong> <em>c</em> <code>d</code></p>")
	ok("# Title\n\n### Part", "<h4>Title</h4>\n<h6>Part</h6>")
	ok("- one\n- two", "<ul>\n<li>one</li>\n<li>two</li>\n</ul>")
	ok("see https://example.com/x and [more](http://example.com)", `<p>see <a href="https://example.com/x">https://example.com/x</a> and <a href="http://example.com">more</a></p>`)
	ok("a <b>c</b> d", "<p>a c d</p>")
	ok("<script>\nalert(1)\n</script>\n\nx", "<p>x</p>")
	ok("[x](javascript:alert(1)) [y](JaVaScRiPt:alert(1)) [z](data:text/html,1) [w](/etc/passwd)", "<p>x y z w</p>")
	ok("<javascript:alert(1)> <mailto:a@example.com>", `<p>javascript:alert(1) <a href="mailto:a@example.com">mailto:a@example.com</a></p>`)
	ok("![a *map*](https://example.com/map.png)", `<p><a href="https://example.com/map.png">a <em>map</em></a></p>`)
	ok("[![a](https://example.com/1.png)](https://example.com)", `<p><a href="https://example.com">a</a></p>`)
	ok("![a](data:image/png;base64,AAAA)", "<p>a</p>")
	ok("1 < 2 & \"3\"", "<p>1 &lt; 2 &amp; &quot;3&quot;</p>")
	ok("", "")
}

// allowed are the elements of a note, and their attributes.
var allowed = map[string][]string{
	"p": nil, "strong": nil, "em": nil, "code": {"class"}, "pre": nil, "h4": nil, "h5": nil, "h6": nil, "ul": nil, "ol": {"start"}, "li": nil,
	"blockquote": nil, "hr": nil, "br": nil, "a": {"href", "title"},
}

func checkSafe(t *testing.T, text string) {
	t.Helper()
	z := html.NewTokenizer(strings.NewReader(text))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if z.Err() != io.EOF {
				t.Errorf("%q: %v", text, z.Err())
			}
			return
		case html.CommentToken, html.DoctypeToken:
			t.Errorf("%q: a comment", text)
		case html.StartTagToken, html.SelfClosingTagToken:
			token := z.Token()
			attributes, ok := allowed[token.Data]
			if !ok {
				t.Errorf("%q: <%s>", text, token.Data)
			}
			for _, a := range token.Attr {
				if !slices.Contains(attributes, a.Key) || a.Key == "href" && !isSafeURL([]byte(a.Val)) {
					t.Errorf("%q: %s=%q", text, a.Key, a.Val)
				}
			}
		}
	}
}

// FuzzMarkdown looks for a text that makes something else than what a note may have.
func FuzzMarkdown(f *testing.F) {
	for _, seed := range []string{
		delayed, "<a href=\"x\" onclick=y>", "[a]: javascript:x\n[a]", "![<b>](http://x/\"onerror=y)", "```js\"onload=x\ny\n```", "<http://a\"b>",
		"<!-- -->", "&lt;script&gt;", "[a](http://x 'y\"z')", "[![a](http://b)](http://c)", "www.example.com/\"x", "3) a\n4) b", "a  \nb\\\nc",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		got, err := markdown(source)
		if err != nil {
			t.Fatal(err)
		}
		checkSafe(t, string(got))
	})
}
