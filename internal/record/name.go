package record

// Name is the name of a field. It never changes, and its address is never that of
// another name: a stage may remember by it what it has found out (NameMemo). Two
// Names may have the same text.
type Name struct {
	key  []byte // ,"_text":
	hash uint32
}

// NewName returns a Name with that text, which is copied: a field's name without
// the leading underscore of GELF.
func NewName[T ~string | ~[]byte](text T) *Name {
	n := &Name{key: make([]byte, 0, len(text)+len(`,"_":`)), hash: 2166136261}
	n.key = append(n.key, `,"_`...)
	n.key = append(n.key, text...)
	n.key = append(n.key, `":`...)
	for _, c := range n.Bytes() {
		n.hash = (n.hash ^ uint32(c)) * 16777619 // FNV-1a
	}
	return n
}

// Bytes returns the text. It belongs to n and is valid for ever.
func (n *Name) Bytes() []byte { return n.key[3 : len(n.key)-2 : len(n.key)-2] }

// String returns the text.
func (n *Name) String() string { return string(n.Bytes()) }

// Key returns the bytes from the comma before the name to the colon after it, as a
// member of a GELF message has them: ,"_text":. They belong to n.
func (n *Name) Key() []byte { return n.key }

// NameMemo remembers a T for each of the names that come up again and again. It
// may forget. The zero value is ready to use; it is for one goroutine.
type NameMemo[T any] struct {
	slots [memoSize]struct {
		name  *Name
		value T
	}
}

const memoSize = 512 // a power of two; more than the names that one host's services use at a time

// At returns the T of n, to be used until the next call. known is false if it is
// new or was forgotten, and so has its zero value.
func (m *NameMemo[T]) At(n *Name) (value *T, known bool) {
	s := &m.slots[n.hash&(memoSize-1)]
	if s.name == n {
		return &s.value, true
	}
	var zero T
	s.name, s.value = n, zero
	return &s.value, false
}

// LastValue remembers the last value of a field that was found to be as it should:
// two of three fields have the value that they had in the message before. It
// remembers short Quoted values only. The zero value is ready to use.
type LastValue struct {
	len   uint8
	token [47]byte
}

// Is reports whether v is the value that was remembered.
func (l *LastValue) Is(v *Value) bool {
	return v.Kind == Quoted && string(v.Bytes) == string(l.token[:l.len])
}

// Set remembers v, if it can.
func (l *LastValue) Set(v *Value) {
	if v.Kind == Quoted && len(v.Bytes) <= len(l.token) {
		l.len = uint8(copy(l.token[:], v.Bytes))
	}
}
