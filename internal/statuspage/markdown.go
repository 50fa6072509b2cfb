package statuspage

import (
	"bytes"
	"fmt"
	"html/template"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// The headings of a note are below its own title, which is an h3 at most.
const headingShift = 3

// markdown returns the HTML of a note in CommonMark. Raw HTML is left out, links go to
// http, https and mailto alone, and a picture becomes a link to it: a page that loads
// from elsewhere tells others who reads it.
func markdown(source string) (template.HTML, error) {
	md := goldmark.New(
		goldmark.WithExtensions(extension.Linkify),
		goldmark.WithParserOptions(parser.WithASTTransformers(util.Prioritized(tamer{}, 1000))),
	)
	var b bytes.Buffer
	if err := md.Convert([]byte(source), &b); err != nil {
		return "", fmt.Errorf("read Markdown: %w", err)
	}
	return template.HTML(b.String()), nil
}

// tamer makes a document fit for the page.
type tamer struct{}

// Transform changes headings, pictures and links of the document.
func (tamer) Transform(doc *ast.Document, reader text.Reader, _ parser.Context) {
	var pictures []*ast.Image
	var links []ast.Node
	var raw []ast.Node
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			n.Level = min(6, n.Level+headingShift)
		case *ast.Image:
			pictures = append(pictures, n)
		case *ast.Link:
			if !isSafeURL(n.Destination) {
				links = append(links, n)
			}
		case *ast.AutoLink:
			if n.AutoLinkType == ast.AutoLinkURL && !isSafeURL(n.URL(reader.Source())) {
				links = append(links, n)
			}
		case *ast.RawHTML, *ast.HTMLBlock:
			raw = append(raw, n)
		}
		return ast.WalkContinue, nil
	})
	for _, n := range raw {
		n.Parent().RemoveChild(n.Parent(), n)
	}
	for _, n := range links {
		unwrap(n, reader.Source())
	}
	for _, n := range pictures {
		if !isSafeURL(n.Destination) || inLink(n) {
			unwrap(n, reader.Source())
			continue
		}
		link := ast.NewLink()
		link.Destination = n.Destination
		move(n, link)
		n.Parent().ReplaceChild(n.Parent(), n, link)
	}
}

// unwrap puts what a link says in its place.
func unwrap(n ast.Node, source []byte) {
	parent := n.Parent()
	if auto, ok := n.(*ast.AutoLink); ok {
		parent.ReplaceChild(parent, n, ast.NewString(auto.Label(source)))
		return
	}
	for c := n.FirstChild(); c != nil; c = n.FirstChild() {
		parent.InsertBefore(parent, n, c)
	}
	parent.RemoveChild(parent, n)
}

// move gives the children of one node to another.
func move(from, to ast.Node) {
	for c := from.FirstChild(); c != nil; c = from.FirstChild() {
		to.AppendChild(to, c)
	}
}

// inLink reports whether n is part of the text of a link.
func inLink(n ast.Node) bool {
	for p := n.Parent(); p != nil; p = p.Parent() {
		if p.Kind() == ast.KindLink {
			return true
		}
	}
	return false
}

// isSafeURL reports whether an address begins with a scheme that a reader may follow.
func isSafeURL(url []byte) bool {
	for _, scheme := range []string{"http://", "https://", "mailto:"} {
		if len(url) > len(scheme) && bytes.EqualFold(url[:len(scheme)], []byte(scheme)) {
			return true
		}
	}
	return false
}
