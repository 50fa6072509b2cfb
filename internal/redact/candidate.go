package redact

// tokenTable finds where a secret can be recognised.
type tokenTable struct {
	set [256]charset
	// A secret can be recognised at a byte b behind a byte a if first[a] and
	// second[b] have a bit in common.
	first, second [256]pair
	nibbles       nibbles
	// byPrevious has the tokens by the byte before the one at which they are
	// looked for.
	byPrevious [256][]token
}

// pair is a set of kinds of pairs of bytes. Pairs share a kind where their nibbles
// have few others in common.
type pair uint8

const (
	separatorPair  pair = 1 << iota // name=value, name: value, scheme://
	schemePair                      // Bearer, Basic
	dashPair                        // PEM, --name value; tokens
	underscorePair                  // tokens
	vaultPair                       // tokens
	letterPair                      // JWT; tokens
	slackPair                       // tokens
	escapePair                      // \u0061, \/; tokens that begin with $
)

// nibbles are first and second as pshufb can look them up: a byte can have the
// pairs that both its low and its high nibble have.
type nibbles struct{ firstLow, firstHigh, secondLow, secondHigh [16]pair }

// newTokenTable returns the table of all tokens.
func newTokenTable() *tokenTable {
	t := &tokenTable{set: charsets()}
	for c := range 256 {
		t.add(separatorPair, string([]byte{byte(c)}), "=:")
	}
	t.add(schemePair, "bB", "eEaA")
	t.add(dashPair, "-", "-")
	t.add(letterPair, "y", "J")
	t.add(escapePair, `\`, "u/")
	for _, k := range tokens() {
		first, second := k.prefix[k.at-1:k.at], k.prefix[k.at:k.at+1]
		t.byPrevious[first[0]] = append(t.byPrevious[first[0]], k)
		kind := letterPair
		switch {
		case first == "$":
			kind = escapePair
		case first == "x":
			kind = slackPair
		case second == "-":
			kind = dashPair
		case second == "_":
			kind = underscorePair
		case first == "h":
			kind = vaultPair
		}
		t.add(kind, first, second)
	}
	return t
}

// add adds all pairs of a byte of first and one of second.
func (t *tokenTable) add(p pair, first, second string) {
	for _, c := range []byte(first) {
		t.first[c] |= p
		t.nibbles.firstLow[c&15] |= p
		t.nibbles.firstHigh[c>>4] |= p
	}
	for _, c := range []byte(second) {
		t.second[c] |= p
		t.nibbles.secondLow[c&15] |= p
		t.nibbles.secondHigh[c>>4] |= p
	}
}

// candidateByByte is candidate without the processor's help.
func (t *tokenTable) candidateByByte(src []byte, i int) int {
	first, second := &t.first, &t.second
	for ; i+8 <= len(src); i += 8 {
		p := (*[9]byte)(src[i-1:])
		if first[p[0]]&second[p[1]]|first[p[1]]&second[p[2]]|first[p[2]]&second[p[3]]|first[p[3]]&second[p[4]]|
			first[p[4]]&second[p[5]]|first[p[5]]&second[p[6]]|first[p[6]]&second[p[7]]|first[p[7]]&second[p[8]] != 0 {
			break
		}
	}
	for i < len(src) && first[src[i-1]]&second[src[i]] == 0 {
		i++
	}
	return i
}
