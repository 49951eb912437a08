package proof

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var secrets = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}

// Learn adds what the API server's Secrets hold to what is looked for. They are read through the API, which decrypts what is encrypted at rest. What was read
// before an error is added too.
func (l *Leaks) Learn(ctx context.Context, s Server) error {
	return each(ctx, s, secrets, largePage, func(u unstructured.Unstructured) error {
		found, err := typed[corev1.Secret]([]unstructured.Unstructured{u})
		l.Add(found...)
		return err
	})
}

// Leaks finds private keys, bearer tokens, and the values of Secrets in texts. It never gives away a value. Methods may be called concurrently.
//
// A private key is one in PEM, as it is or in base64; a bearer token is a signed JSON Web Token. The value of a Secret is looked for as
// it is, as a JSON string, and in base64 at each of the three ways in which it can lie in what is encoded; all of it or, of a long one, its beginning.
// As it is, it must stand by itself, not within a longer word. Values that are names of things are not looked for: logs are full of them.
type Leaks struct {
	mu sync.RWMutex
	// known holds hashes of the Secrets' keys and values that were added, so that one which is added again is the same.
	known map[[sha256.Size]byte]bool
	// first marks, by a hash of their first bytes, where forms may begin: most places of a text need no more than one look at it.
	first [1 << 16 / 64]uint64
	// byStart holds the forms by their first bytes.
	byStart map[uint64][]form
	// Searched counts the values that are looked for, Short those that are not: too short, too uniform or names, they can't be told from other text.
	Searched, Short int
}

// form is one way to write a value.
type form struct {
	// text is what is looked for, at least leastValue bytes.
	text []byte
	// length is that of the whole, of which text may be only the beginning.
	length int
	// alone says that it counts only where letters or digits on its two sides don't go on.
	alone bool
	what  string
}

const (
	// leastValue and leastDistinct are in bytes: what is shorter, or made of fewer different bytes, stands in many texts by chance.
	leastValue    = 8
	leastDistinct = 4
	// mostValue is how much of a value is looked for, in bytes.
	mostValue = 16 << 10
)

// notSecret says what is public in Secrets, by their type.
func notSecret(t corev1.SecretType, key string) bool {
	switch t {
	case corev1.SecretTypeBootstrapToken:
		return key != "token-secret" // the rest says whose it is and what it may be used for
	case corev1.SecretTypeTLS:
		return key == corev1.TLSCertKey || key == "ca.crt"
	case corev1.SecretTypeServiceAccountToken:
		return key == corev1.ServiceAccountRootCAKey || key == corev1.ServiceAccountNamespaceKey || key == "service-ca.crt"
	case corev1.SecretTypeBasicAuth:
		return key == corev1.BasicAuthUsernameKey
	case corev1.SecretTypeSSHAuth:
		return key == "ssh-publickey" || key == "known_hosts"
	default:
		return false
	}
}

const (
	// shortValue is in bytes: what is shorter is looked for only if it isn't a word or an address either.
	shortValue = 16
	// randomRun and randomChanges tell a random text from a name, if both are of lower-case letters and digits: so many of them in a row, with so many
	// changes between letters and digits. Names that Kubernetes makes have at most 10 random characters in a row.
	randomRun, randomChanges = 16, 4
)

var (
	// nameLike is a DNS name (RFC 1123), a path of such names, or a URL without a user or a query.
	nameLike = regexp.MustCompile(`^(?:[a-z][a-z0-9+.-]*://)?/*[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?(?:/[a-z0-9.-]*)*$`)
	// wordLike is what else, if it is short, may be meant for anything: words and names in programs, and addresses of mail.
	wordLike = regexp.MustCompile(`^(?:[a-z0-9._/:@-]+|(?:[A-Z][a-z]{2,})+|[A-Z][A-Z_]+)$`)
	uuid     = regexp.MustCompile(`^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	inRow    = regexp.MustCompile(fmt.Sprintf(`[a-z0-9]{%d,}`, randomRun))
)

// isName says that a value is a name, a place or a word, which stands in logs for other reasons: a Secret that holds the user "postgres" or the
// address of the API server is common.
func isName(v []byte) bool {
	if uuid.Match(v) || slices.ContainsFunc(inRow.FindAll(v, -1), func(run []byte) bool { return changes(run) >= randomChanges }) {
		return false
	}
	if _, _, err := net.ParseCIDR(string(v)); err == nil || net.ParseIP(string(v)) != nil {
		return true
	}
	return nameLike.Match(v) || len(v) < shortValue && wordLike.Match(v)
}

// changes counts how often a letter follows a digit, or a digit a letter.
func changes(run []byte) int {
	n := 0
	isDigit := func(b byte) bool { return b >= '0' && b <= '9' }
	for i := 1; i < len(run); i++ {
		if isDigit(run[i]) != isDigit(run[i-1]) {
			n++
		}
	}
	return n
}

// NewLeaks returns a scanner that knows no Secret, and finds private keys and tokens all the same.
func NewLeaks() *Leaks {
	return &Leaks{known: map[[sha256.Size]byte]bool{}, byStart: map[uint64][]form{}}
}

// Add lets the values of Secrets be looked for, besides those that were added before.
func (l *Leaks) Add(secrets ...corev1.Secret) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range secrets {
		for _, key := range slices.Sorted(maps.Keys(s.Data)) {
			if notSecret(s.Type, key) {
				continue
			}
			v := bytes.TrimSpace(s.Data[key]) // a file's last line break is seldom written with the rest
			what := fmt.Sprintf("Secret %s/%s, key %s", s.Namespace, s.Name, key)
			id := sha256.Sum256(fmt.Appendf(nil, "%q %s", what, v))
			if l.known[id] {
				continue
			}
			l.known[id] = true
			random := s.Type == corev1.SecretTypeBootstrapToken // what isn't public in it was made at random (notSecret)
			if len(v) < leastValue || distinct(v) < leastDistinct || !random && isName(v) {
				l.Short++
				continue
			}
			l.Searched++
			for _, f := range forms(v) {
				f.what = what
				l.add(f)
			}
		}
	}
}

func (l *Leaks) add(f form) {
	start := binary.LittleEndian.Uint64(f.text)
	h := startHash(start)
	l.first[h/64] |= 1 << (h % 64)
	l.byStart[start] = append(l.byStart[start], f)
}

// startHash spreads the first bytes of a form over 16 bits (Fibonacci hashing).
func startHash(start uint64) uint64 { return start * 0x9E3779B97F4A7C15 >> 48 }

func distinct(v []byte) int {
	seen := map[byte]bool{}
	for _, b := range v {
		seen[b] = true
	}
	return len(seen)
}

// forms returns the ways to write a value.
func forms(v []byte) []form {
	part := v[:min(len(v), mostValue)]
	out := []form{{text: part, length: len(v), alone: true}}
	for _, html := range []bool{false, true} {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(html)
		if enc.Encode(string(part)) != nil {
			continue
		}
		text := bytes.Trim(bytes.TrimSpace(b.Bytes()), `"`)
		if !slices.ContainsFunc(out, func(f form) bool { return bytes.Equal(f.text, text) }) {
			out = append(out, form{text: text, length: len(text) + len(v) - len(part), alone: true})
		}
	}
	for _, text := range encodings(part) {
		out = append(out, form{text: text, length: base64.RawStdEncoding.EncodedLen(len(v))})
	}
	return out
}

// encodings returns how bytes look in base64, wherever they stand in what is encoded: that depends on how many bytes stand before, modulo 3. The
// characters that neighbouring bytes have a share in are left out.
func encodings(v []byte) [][]byte {
	var out [][]byte
	for before := range 3 {
		text := base64.RawStdEncoding.AppendEncode(nil, append(make([]byte, before), v...))
		out = append(out, text[(before*8+5)/6:(before+len(v))*8/6])
	}
	return out
}

// Leak is a place in a text where something secret stands.
type Leak struct {
	// Start and End are where, in bytes.
	Start, End int
	// What says what it is, and never shows it.
	What string
}

// Find returns what the text gives away, in order; no two places overlap.
func (l *Leaks) Find(text []byte) []Leak {
	// What a Secret is named for comes first: its value may be a private key or a token as well.
	found := l.values(text)
	found = append(found, privateKeys(text)...)
	found = append(found, tokens(text)...)
	slices.SortStableFunc(found, func(a, b Leak) int { return cmp.Compare(a.Start, b.Start) })
	var out []Leak
	for _, f := range found {
		if n := len(out); n > 0 && f.Start < out[n-1].End {
			last := &out[n-1]
			if last.End = max(last.End, f.End); strings.HasPrefix(f.What, "Secret ") && !strings.HasPrefix(last.What, "Secret ") {
				last.What = f.What
			}
			continue
		}
		out = append(out, f)
	}
	return out
}

func (l *Leaks) values(text []byte) []Leak {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []Leak
	if len(l.byStart) == 0 {
		return nil
	}
	for i := 0; i+leastValue <= len(text); i++ {
		start := binary.LittleEndian.Uint64(text[i:])
		if h := startHash(start); l.first[h/64]&(1<<(h%64)) == 0 {
			continue
		}
		var best form
		for _, f := range l.byStart[start] {
			if len(f.text) > len(best.text) && bytes.HasPrefix(text[i:], f.text) && (!f.alone || standsAlone(text, i, i+len(f.text), f.length)) {
				best = f
			}
		}
		if best.text == nil {
			continue
		}
		end := min(i+max(best.length, len(best.text)), len(text))
		out = append(out, Leak{Start: i, End: end, What: best.what})
		i = end - 1
	}
	return out
}

// escaped ends with what stands for one character in a JSON string, a quoted Go string or a URL, or with a colour of a terminal.
var escaped = regexp.MustCompile(`(?:\\[abefnrtv]|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[0-7]{3}|%[0-9A-Fa-f]{2}|\x1b\[[0-9;]*m)$`)

// standsAlone says that a word doesn't go on before start or after end, if there it begins or ends with a letter or digit. Of what is longer than its
// form, the end isn't known.
func standsAlone(text []byte, start, end, length int) bool {
	if end < len(text) && length == end-start && isWord(text[end-1]) && isWord(text[end]) {
		return false
	}
	return start == 0 || !isWord(text[start]) || !isWord(text[start-1]) || escaped.Match(text[max(0, start-8):start])
}

func isWord(b byte) bool { return b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' || b >= '0' && b <= '9' }

const (
	// keyMaterial is how many characters of base64 in a row, behind a PEM header, are taken for a key: a header alone is only talk of keys. A time,
	// which stands before each line in a log, has fewer.
	keyMaterial = 24
	// keyNear is how far apart the header and the lines of a key may be, in bytes: PEM may have headers of its own (RFC 1421).
	keyNear = 256
	// keyWords end the header of every kind of private key (RFC 7468).
	keyWords = "PRIVATE KEY-----"
)

var (
	pemBegin = regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*` + keyWords)
	pemEnd   = regexp.MustCompile(`-----END (?:[A-Z0-9]+ )*` + keyWords)
	keyLine  = regexp.MustCompile(fmt.Sprintf(`[A-Za-z0-9+/=]{%d,}`, keyMaterial))
	// token is a signed JSON Web Token (RFC 7519): header, claims, signature.
	token = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}`)
)

// privateKeys finds keys in PEM, whole or cut off, also where something stands before each of their lines; and such keys in base64.
func privateKeys(text []byte) []Leak {
	var out []Leak
	for _, at := range pemBegin.FindAllIndex(text, -1) {
		end := at[1]
		for {
			near := text[end:min(end+keyNear, len(text))]
			line, last := keyLine.FindIndex(near), pemEnd.FindIndex(near)
			if last != nil && (line == nil || last[0] < line[0]) {
				if end > at[1] {
					end += last[1]
				}
				break
			}
			if line == nil {
				break
			}
			end += line[1]
		}
		if end > at[1] {
			out = append(out, Leak{Start: at[0], End: end, What: "a private key"})
		}
	}
	for _, words := range encodings([]byte(keyWords)) {
		for from := 0; ; {
			i := bytes.Index(text[from:], words)
			if i < 0 {
				break
			}
			start, end := from+i, from+i+len(words)
			for start > from && isBase64(text[start-1]) {
				start--
			}
			key := end
			for end < len(text) && isBase64(text[end]) {
				end++
			}
			if from = end; end-key >= keyMaterial {
				out = append(out, Leak{Start: start, End: end, What: "a private key in base64"})
			}
		}
	}
	return out
}

func isBase64(b byte) bool {
	return isWord(b) || b == '+' || b == '/' || b == '='
}

func tokens(text []byte) []Leak {
	var out []Leak
	for _, at := range token.FindAllIndex(text, -1) {
		out = append(out, Leak{Start: at[0], End: at[1], What: "a bearer token" + bearer(text[at[0]:at[1]])})
	}
	return out
}

// bearer says whose token it is: that is no secret.
func bearer(token []byte) string {
	var claims struct {
		Subject string `json:"sub"`
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(string(token), ".")[1])
	if err != nil || json.Unmarshal(raw, &claims) != nil || claims.Subject == "" {
		return ""
	}
	return fmt.Sprintf(" of %q", claims.Subject)
}

// Mask returns the text with the name of what was there in the place of everything secret.
func (l *Leaks) Mask(text []byte) []byte {
	found := l.Find(text)
	if len(found) == 0 {
		return text
	}
	var out []byte
	at := 0
	for _, f := range found {
		out = append(append(out, text[at:f.Start]...), "[masked: "+f.What+"]"...)
		at = f.End
	}
	return append(out, text[at:]...)
}
