package redact

// rule is the index of a rule's name.
type rule uint8

// The built-in rules.
const (
	ruleKey rule = iota
	ruleAuthorization
	ruleCookie
	ruleSession
	ruleCard
	ruleURI
	ruleJWT
	rulePEM
	ruleAWS
	ruleGitHub
	ruleGitLab
	ruleGoogle
	ruleNPM
	ruleOpenAI
	ruleSlack
	ruleStripe
	ruleVault
	ruleHash
	ruleCount
)

// ruleNames returns the names of the built-in rules.
func ruleNames() []string {
	return []string{
		ruleKey:           "key",
		ruleAuthorization: "authorization",
		ruleCookie:        "cookie",
		ruleSession:       "session",
		ruleCard:          "card",
		ruleURI:           "uri",
		ruleJWT:           "jwt",
		rulePEM:           "pem",
		ruleAWS:           "aws",
		ruleGitHub:        "github",
		ruleGitLab:        "gitlab",
		ruleGoogle:        "google",
		ruleNPM:           "npm",
		ruleOpenAI:        "openai",
		ruleSlack:         "slack",
		ruleStripe:        "stripe",
		ruleVault:         "vault",
		ruleHash:          "password_hash",
	}
}

// charset is a set of bytes that a token consists of.
type charset uint8

const (
	upperDigits charset = 1 << iota // A-Z 0-9
	alnum                           // A-Z a-z 0-9
	base64URL                       // alnum - _
	dotted                          // base64URL .
	base64Std                       // alnum + / =
	credentials                     // RFC 6750 section 2.1 without = at the end; and : %
	hashText                        // alnum $ . / + , = -
	nameText                        // of names of parameters: alnum _ - .
)

// charsets returns the sets that each byte is in.
func charsets() (t [256]charset) {
	for c := range t {
		b := byte(c)
		lower := b >= 'a' && b <= 'z'
		upper := b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
		in := func(set charset, extra string) {
			for i := range len(extra) {
				if extra[i] == b {
					t[c] |= set
				}
			}
		}
		if upper {
			t[c] |= upperDigits
		}
		if upper || lower {
			t[c] |= alnum | base64URL | dotted | base64Std | credentials | hashText | nameText
		}
		in(base64URL, "-_")
		in(dotted, "-_.")
		in(base64Std, "+/=")
		in(credentials, "-._~+/:%")
		in(hashText, "$./+,=-")
		in(nameText, "_-.")
	}
	return t
}

// token is a secret that its first bytes announce.
type token struct {
	prefix string
	at     int // of the byte in prefix at which it is looked for: with the one before it, a rare pair
	rule   rule
	min    int // bytes after the prefix
	set    charset
}

// tokens returns the tokens that have a fixed beginning: what the issuers
// document and secret scanners look for.
func tokens() []token {
	list := []token{
		{"AKIA", 2, ruleAWS, 16, upperDigits},
		{"ASIA", 2, ruleAWS, 16, upperDigits},
		{"AIza", 2, ruleGoogle, 30, base64URL},
		{"github_pat_", 6, ruleGitHub, 20, base64URL},
		{"glpat-", 5, ruleGitLab, 16, dotted},
		{"npm_", 3, ruleNPM, 30, alnum},
		{"sk-ant-", 2, ruleOpenAI, 16, base64URL},
		{"sk-proj-", 2, ruleOpenAI, 16, base64URL},
		{"whsec_", 5, ruleStripe, 16, alnum},
		{"$argon2", 1, ruleHash, 20, hashText},
	}
	for _, c := range "pousr" {
		list = append(list, token{"gh" + string(c) + "_", 3, ruleGitHub, 16, alnum})
	}
	for _, c := range "abeoprs" {
		list = append(list, token{"xox" + string(c) + "-", 1, ruleSlack, 10, base64URL})
	}
	for _, kind := range []string{"sk_live_", "sk_test_", "rk_live_", "rk_test_"} {
		list = append(list, token{kind, 2, ruleStripe, 10, alnum})
	}
	for _, c := range "sbr" {
		list = append(list, token{"hv" + string(c) + ".", 1, ruleVault, 16, base64URL})
	}
	for _, c := range "abxy" {
		list = append(list, token{"$2" + string(c) + "$", 1, ruleHash, 50, hashText})
	}
	return list
}
