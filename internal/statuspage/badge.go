package statuspage

import (
	"fmt"
	"html"
	"html/template"
	"strings"
	"unicode/utf8"

	"sidecar/internal/health"
)

// badgeLabel is the colour behind the name on a badge. The state has the colour that
// its text has on a light page; what is written on both is white.
const badgeLabel = "#3b4450"

// badge returns a picture of a name and its state, 20 units high, as they are put into
// documents. Text widths are guessed, and then enforced by textLength.
func badge(name string, s health.State) []byte {
	state := strings.ToLower(label(s))
	left, right := textWidth(name)+12, textWidth(state)+12
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img" aria-label="%s: %s">`, left+right, html.EscapeString(name), state)
	fmt.Fprintf(&b, `<title>%s: %s</title><clipPath id="r"><rect width="%d" height="20" rx="4"/></clipPath>`, html.EscapeString(name), state, left+right)
	fmt.Fprintf(&b, `<g clip-path="url(#r)"><rect width="%d" height="20" fill="%s"/><rect x="%d" width="%d" height="20" fill="%s"/></g>`,
		left, badgeLabel, left, right, light[class(s)])
	b.WriteString(`<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">`)
	fmt.Fprintf(&b, `<text x="%d" y="14" textLength="%d">%s</text>`, left/2, left-12, html.EscapeString(name))
	fmt.Fprintf(&b, `<text x="%d" y="14" textLength="%d">%s</text></g></svg>`, left+right/2, right-12, state)
	b.WriteByte('\n')
	return []byte(b.String())
}

// textWidth guesses how wide text is in Verdana of 11 units.
func textWidth(text string) int {
	width := 0
	for _, r := range text {
		switch {
		case strings.ContainsRune("fijlrt.-' I", r):
			width += 45
		case strings.ContainsRune("mwMW", r):
			width += 100
		case r >= 0x2e80: // East Asian
			width += 110
		case r >= 'A' && r <= 'Z':
			width += 76
		default:
			width += 68
		}
	}
	return max(width/10, utf8.RuneCountInString(text))
}

// symbols are drawn in a square of 24 units, with white lines on the colour of the
// state. They differ in shape, for those who do not see colours.
var symbols = map[string]string{
	"pass":        `<path d="M6.5 12.5l3.8 3.8 7.4-8.2"/>`,
	"warn":        `<path d="M12 6.2v7.3M12 17.4v.2"/>`,
	"fail":        `<path d="M7.5 7.5l9 9M16.5 7.5l-9 9"/>`,
	"maintenance": `<path d="M8.5 7v10M15.5 7v10"/>`,
	"unknown":     `<path d="M9 9.3a3 3 0 1 1 4.4 2.8c-.9.5-1.4 1-1.4 2M12 17.5v.2"/>`,
}

// symbol returns the symbol of a class to be put into a page, in the colours that the
// style sheet has for it.
func symbol(class string) template.HTML {
	return template.HTML(`<svg viewBox="0 0 24 24" aria-hidden="true"><circle class="disc" cx="12" cy="12" r="12"/><g class="sign">` + symbols[class] + `</g></svg>`)
}

// icon returns the symbol of a state as a picture.
func icon(s health.State) []byte {
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><circle cx="12" cy="12" r="12" fill="%s"/>`+
		`<g fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round" stroke-linejoin="round">%s</g></svg>`+"\n", light[class(s)], symbols[class(s)])
}
