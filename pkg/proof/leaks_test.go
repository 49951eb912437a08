package proof

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func secret(name string, t corev1.SecretType, data map[string]string) corev1.Secret {
	s := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Type: t, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	return s
}

// privateKey is a new one in PEM.
func privateKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// webToken is a signed JSON Web Token of somebody.
func webToken(subject string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256","kid":"x"}`)) + "." + part(fmt.Appendf(nil, `{"iss":"https://kubernetes.default.svc","sub":%q}`, subject)) + "." + part(bytes.Repeat([]byte{7, 200}, 40))
}

func TestLeaks(t *testing.T) {
	key, jwt := privateKey(t), webToken("system:serviceaccount:default:nginx")
	long := strings.Repeat("0123456789abcdef", 2*mostValue/16)
	l := NewLeaks()
	l.Add(
		secret("db", corev1.SecretTypeOpaque, map[string]string{"password": "s3cr3t/pa+ss\n", "quoted": "a\"b<c>d\ne", "pin": "1234567", "zeros": strings.Repeat("0102", 20)}),
		secret("long", "helm.sh/release.v1", map[string]string{"release": long}),
		secret("sa", corev1.SecretTypeServiceAccountToken, map[string]string{"token": webToken("known"), "ca.crt": "-----BEGIN CERTIFICATE-----", "namespace": "a-namespace"}),
	)
	if l.Searched != 4 || l.Short != 2 {
		t.Errorf("%d looked for, %d not", l.Searched, l.Short)
	}
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	inJSON, err := json.Marshal("a\"b<c>d\ne")
	if err != nil {
		t.Fatal(err)
	}
	const db = "Secret default/db, key password"
	for name, c := range map[string]struct {
		text string
		want string // what the text gives away
		rest string // what remains of it, with # in the place of each
	}{
		"nothing":                         {"all is well", "", "all is well"},
		"nothing at all":                  {"", "", ""},
		"raw":                             {"connect with s3cr3t/pa+ss, then", db, "connect with #, then"},
		"at both ends":                    {"s3cr3t/pa+ss s3cr3t/pa+ss", db + "|" + db, "# #"},
		"cut off":                         {"s3cr3t/pa+s", "", "s3cr3t/pa+s"},
		"base64":                          {"password: " + encode("s3cr3t/pa+ss"), db, "password: #"},
		"base64, one more":                {encode("xs3cr3t/pa+ss"), db, ""},
		"base64, two more":                {encode("xys3cr3t/pa+ssyx"), db, ""},
		"base64, three more":              {encode("xyzs3cr3t/pa+ssx"), db, ""},
		"as a JSON string":                {`{"x":` + string(inJSON) + "}", "Secret default/db, key quoted", `{"x":"#"}`},
		"as JSON without escapes of HTML": {`{"x":"a\"b<c>d\ne"}`, "Secret default/db, key quoted", `{"x":"#"}`},
		"in lines":                        {"a\"b<c>d\ne", "Secret default/db, key quoted", "#"},
		"too short":                       {"1234567", "", "1234567"},
		"too plain":                       {strings.Repeat("0102", 20), "", strings.Repeat("0102", 20)},
		"the beginning of a long one hides all of it": {"<" + long + ">", "Secret default/long, key release", "<#>"},
		"a namespace is no secret":                    {"a-namespace", "", "a-namespace"},
		"a key":                                       {"tls:\n" + key + "end", "a private key", "tls:\n#\nend"},
		"a key in a string":                           {fmt.Sprintf("%q", key), "a private key", `"#\n"`},
		"a key, cut off":                              {key[:90], "a private key", "#"},
		"a key behind times": {
			"T F " + strings.ReplaceAll(strings.TrimSpace(key), "\n", "\n2026-11-23T07:22:34.498300144Z stderr F "), "a private key", "T F #",
		},
		"talk of keys":                 {"expected -----BEGIN PRIVATE KEY-----, seen a certificate", "", "expected -----BEGIN PRIVATE KEY-----, seen a certificate"},
		"an empty key":                 {"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", "", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"},
		"a public key":                 {strings.ReplaceAll(key, "EC PRIVATE", "PUBLIC"), "", strings.ReplaceAll(key, "EC PRIVATE", "PUBLIC")},
		"a key in base64":              {"client-key-data: " + encode(key) + "\n", "a private key in base64", "client-key-data: #\n"},
		"a key in base64, within more": {encode("certificate and " + key), "a private key in base64", "#"},
		"talk of keys in base64":       {encode("-----BEGIN PRIVATE KEY-----"), "", encode("-----BEGIN PRIVATE KEY-----")},
		"a token":                      {"Authorization: Bearer " + jwt + "\n", `a bearer token of "system:serviceaccount:default:nginx"`, "Authorization: Bearer #\n"},
		"no token":                     {"eyJhbGciOiJSUzI1NiJ9.eyJhbGciOiJSUzI1NiJ9", "", "eyJhbGciOiJSUzI1NiJ9.eyJhbGciOiJSUzI1NiJ9"},
		"a Secret's token":             {"Bearer " + webToken("known"), "Secret default/sa, key token", "Bearer #"},
	} {
		t.Run(name, func(t *testing.T) {
			var what []string
			end := 0
			for _, f := range l.Find([]byte(c.text)) {
				if f.Start < end || f.End <= f.Start || f.End > len(c.text) {
					t.Errorf("%+v after %d", f, end)
				}
				end = f.End
				what = append(what, f.What)
			}
			if got := strings.Join(what, "|"); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
			rest := string(l.Mask([]byte(c.text)))
			for _, w := range what {
				rest = strings.Replace(rest, "[masked: "+w+"]", "#", 1)
			}
			if c.rest != "" && rest != c.rest {
				t.Errorf("masked: %q, want %q", rest, c.rest)
			}
		})
	}
}

// TestMaskedBase64: what stands beside a value in the same base64 may remain, but nothing of the value.
func TestMaskedBase64(t *testing.T) {
	value := make([]byte, 33)
	rand.Read(value)
	l := NewLeaks()
	l.Add(corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s"}, Data: map[string][]byte{"k": value}})
	for before := range 5 {
		for after := range 5 {
			text := base64.StdEncoding.EncodeToString(append(append(make([]byte, before), value...), make([]byte, after)...))
			masked := l.Mask([]byte(text))
			if !bytes.Contains(masked, []byte("[masked: Secret n/s, key k]")) || len(masked) > len("[masked: Secret n/s, key k]")+before*4/3+after*4/3+8 {
				t.Errorf("%d before, %d after: %s of %s", before, after, masked, text)
			}
		}
	}
}

// TestNotSecret: the table of what is public, by the type of a Secret.
func TestNotSecret(t *testing.T) {
	for typ, keys := range map[corev1.SecretType]map[string]bool{ // whether it is public
		corev1.SecretTypeBootstrapToken:      {"token-secret": false, "token-id": true, "auth-extra-groups": true, "usage-bootstrap-signing": true, "description": true},
		corev1.SecretTypeTLS:                 {"tls.key": false, "tls.crt": true},
		corev1.SecretTypeServiceAccountToken: {"token": false, "ca.crt": true, "namespace": true},
		corev1.SecretTypeBasicAuth:           {"password": false, "username": true},
		corev1.SecretTypeSSHAuth:             {"ssh-privatekey": false},
		corev1.SecretTypeDockerConfigJson:    {".dockerconfigjson": false},
		corev1.SecretTypeOpaque:              {"ca.crt": false, "username": false},
		"example.com/own":                    {"tls.crt": false},
	} {
		for key, want := range keys {
			if got := notSecret(typ, key); got != want {
				t.Errorf("%s of %s: %v", key, typ, got)
			}
		}
	}
}

// TestNames: what people and Kubernetes name things with is no secret, what was made at random is.
func TestNames(t *testing.T) {
	for v, want := range map[string]bool{
		"postgres": true, "postgres-0": true, "kube-system": true, "nginx-7d9c8b7f5-x2k9p": true, "postgres.db.svc.cluster.local": true, "kube-system/coredns": true,
		"https://kubernetes.default.svc": true, "https://kubernetes.default.svc:443/api": true, "/etc/kubernetes/pki/ca.crt": true, "10.96.0.1": true, "10.96.0.1:443": true,
		"10.96.0.0/16": true, "fd00:10:96::1": true, "fd00:10:96::/112": true, "kubernetes-admin": true, "root@example": true, "ip-10-0-1-23.ec2.internal": true,
		"account1234567890": true, "20261123074638": true, "my_database": true, "Administrator": true, "DaemonSet": true, "PRODUCTION": true,

		"k3J9x0Q2m7Z4": false, "S3cr3t-and-long": false, "xKqLmNpRtYwZ": false, "hunter2!hunter2": false, "correct horse": false, "Passw0rd": false,
		"postgres://app:hunter@db/x": false, "https://x.example/?key=abcdefgh": false, "correct_horse_battery": false, "admin@example.com": false,
		"c05b12e1ccb83a6cd9153b6d6d9b4d1c": false, "same-prefix-c05b12e1ccb83a6cd9153b6d6d9b4d1c": false, "6bd8a1e4-2f0c-4b2e-9c55-0d1f2a3b4c5d": false,
		"GEZDGNBVGY3TQOJQ": false, "https://hooks.example/T0AB12CD/x9Y8z7": false,
	} {
		if got := isName([]byte(v)); got != want {
			t.Errorf("%q is a name: %v", v, got)
		}
		l := NewLeaks()
		l.Add(secret("x", corev1.SecretTypeOpaque, map[string]string{"k": v}))
		if found := l.Find([]byte("request body: " + v + "\n")); (len(found) == 0) != want {
			t.Errorf("%q: %v", v, found)
		}
	}
	for range 1000 {
		if v := rand.Text(); isName([]byte(v)) {
			t.Fatalf("%q is a name", v)
		}
	}
	l := NewLeaks()
	l.Add(secret("user", corev1.SecretTypeOpaque, map[string]string{"username": "postgres"}),
		secret("bootstrap-token-abcdef", corev1.SecretTypeBootstrapToken, map[string]string{"token-secret": "abcdefghijklmnop"}))
	if l.Searched != 1 || l.Short != 1 {
		t.Errorf("%d looked for, %d not", l.Searched, l.Short)
	}
	const line = `"SyncLoop ADD" source="api" pods=["db/postgres-0"] abcdefghijklmnop`
	if got := string(l.Mask([]byte(line))); got != `"SyncLoop ADD" source="api" pods=["db/postgres-0"] [masked: Secret default/bootstrap-token-abcdef, key token-secret]` {
		t.Errorf("%s", got)
	}
}

// TestStandsAlone: a value within a longer word is another word.
func TestStandsAlone(t *testing.T) {
	l := NewLeaks()
	l.Add(secret("db", corev1.SecretTypeOpaque, map[string]string{"password": "Pa55word", "odd": "/Pa.ss-Wo/"}))
	for text, want := range map[string]int{
		"Pa55word": 1, "x=Pa55word;": 1, `"Pa55word"`: 1, "_Pa55word_": 1, "Pa55word Pa55word": 2, "a/Pa.ss-Wo/b": 1, `"pw:\nPa55word\n"`: 1, `pw\u003dPa55word`: 1, `pw\x3dPa55word`: 1,
		"pw%3DPa55word": 1, "\x1b[31mPa55word\x1b[0m": 1, "éPa55word": 1,
		"xPa55word": 0, "Pa55words": 0, "1Pa55word": 0, "Pa55word0": 0,
	} {
		if got := l.Find([]byte(text)); len(got) != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestManyValues: among many values, that are alike at their beginnings, each is found and named, and the longest of those that fit.
func TestManyValues(t *testing.T) {
	l := NewLeaks()
	values := map[string]string{}
	for i := range 5000 {
		b := make([]byte, 16)
		rand.Read(b)
		values[fmt.Sprint(i)] = "Same-Prefix-" + hex.EncodeToString(b)
	}
	values["short"] = "Same-Prefix-"
	l.Add(secret("many", corev1.SecretTypeOpaque, values))
	for key, v := range values {
		found := l.Find([]byte("x " + v + " y"))
		if len(found) != 1 || found[0] != (Leak{Start: 2, End: 2 + len(v), What: "Secret default/many, key " + key}) {
			t.Fatalf("%s: %+v", key, found)
		}
	}
}

func BenchmarkLeaks(b *testing.B) {
	l := NewLeaks()
	values := map[string]string{}
	for i := range 5000 {
		values[fmt.Sprint(i)] = rand.Text()
	}
	l.Add(secret("many", corev1.SecretTypeOpaque, values))
	text := []byte(strings.Repeat("I1123 07:22:34.498300       1 controller.go:624] quota admission added evaluator for: deployments.apps\n", 10000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if len(l.Find(text)) > 0 {
			b.Fatal("found something")
		}
	}
}

// TestLearn: all pages are read, and one that can't be is an error.
func TestLearn(t *testing.T) {
	page := func(next string, items ...object) object {
		o := listOf(items...)
		o["kind"], o["metadata"] = "SecretList", object{"continue": next}
		return o
	}
	item := func(name, value string) object {
		return object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"namespace": "default", "name": name}, "type": "Opaque",
			"data": object{"k": base64.StdEncoding.EncodeToString([]byte(value))}}
	}
	refused := false
	server := serve(t, "cp-a", &apiServer{lie: func(w http.ResponseWriter, r *http.Request, _ call) bool {
		switch {
		case refused:
			status(w, http.StatusForbidden, metav1.StatusReasonForbidden)
		case r.URL.Query().Get("continue") == "more":
			reply(w, http.StatusOK, page("", item("b", "second value")))
		default:
			reply(w, http.StatusOK, page("more", item("a", "first value")))
		}
		return true
	}})
	l := NewLeaks()
	if err := l.Learn(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	if got := string(l.Mask([]byte("first value, second value"))); got != "[masked: Secret default/a, key k], [masked: Secret default/b, key k]" {
		t.Errorf("%s", got)
	}
	if err := l.Learn(t.Context(), server); err != nil || l.Searched != 2 {
		t.Errorf("what is learnt again is looked for %d times, %v", l.Searched, err)
	}
	refused = true
	if err := NewLeaks().Learn(t.Context(), server); err == nil || !strings.Contains(err.Error(), "LIST secrets") {
		t.Errorf("%v", err)
	}
}
