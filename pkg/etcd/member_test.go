package etcd_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/etcd-drill/drill/pkg/etcd"
)

func TestMemberAnswers(t *testing.T) {
	s := serve(t, t.TempDir(), nil)
	s.put(t, 20)

	if err := etcd.Health(t.Context(), s.Endpoint); err != nil {
		t.Errorf("Health: %v", err)
	}
	st, err := etcd.StatusOf(t.Context(), s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	// 20 keys written twice and 2 deleted, after the revision 1 of an empty store.
	if st.Version != version.Version || st.Revision != 1+2*20+2 || !st.Leader || st.Learner || st.DBSize == 0 || st.ClusterID == 0 {
		t.Errorf("StatusOf = %+v", st)
	}
	if !strings.HasPrefix(version.Version, strings.TrimSuffix(st.StorageVersion, ".0")) {
		t.Errorf("storage version %q of server %s", st.StorageVersion, version.Version)
	}
	members, err := etcd.Members(t.Context(), s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	want := s.Config().AdvertisePeerUrls[0].String()
	if len(members) != 1 || members[0].Name != "member-a" || !slices.Equal(members[0].PeerURLs, []string{want}) ||
		!members[0].Started || members[0].ID != st.MemberID {
		t.Errorf("Members = %+v", members)
	}
	h, err := etcd.HashKV(t.Context(), s.Endpoint, 0)
	if err != nil {
		t.Fatal(err)
	}
	again, err := etcd.HashKV(t.Context(), s.Endpoint, h.HashRevision)
	if err != nil {
		t.Fatal(err)
	}
	if h != again || h.HashRevision != st.Revision {
		t.Errorf("HashKV = %+v, then %+v", h, again)
	}
	if earlier, err := etcd.HashKV(t.Context(), s.Endpoint, 10); err != nil || earlier.Hash == h.Hash {
		t.Errorf("HashKV at 10 = %+v, %v; want another hash", earlier, err)
	}
	if _, err := etcd.HashKV(t.Context(), s.Endpoint, -1); err == nil {
		t.Error("HashKV at -1: no error")
	}
}

func TestHealthNamesAlarms(t *testing.T) {
	for _, alarm := range []etcdserverpb.AlarmType{etcdserverpb.AlarmType_NOSPACE, etcdserverpb.AlarmType_CORRUPT} {
		t.Run(alarm.String(), func(t *testing.T) {
			s := serve(t, t.TempDir(), nil)
			_, err := s.Server.Alarm(t.Context(), &etcdserverpb.AlarmRequest{
				Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: uint64(s.Server.MemberID()), Alarm: alarm,
			})
			if err != nil {
				t.Fatal(err)
			}
			err = etcd.Health(t.Context(), s.Endpoint)
			if err == nil || !strings.Contains(err.Error(), alarm.String()) {
				t.Fatalf("Health = %v, want the alarm named", err)
			}
			if alarm == etcdserverpb.AlarmType_NOSPACE && !errors.Is(err, etcd.ErrAlarm) {
				t.Errorf("Health = %v, want ErrAlarm", err)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	nobody := etcd.Endpoint{URL: peerURL(t).String()}
	err := etcd.Health(t.Context(), nobody)
	if err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), nobody.URL) {
		t.Errorf("Health = %v, want it to say that the connection was refused, and where", err)
	}
	path := filepath.Join(vault(t), "snap.db")
	if _, err := etcd.Save(t.Context(), nobody, path); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Save = %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := etcd.Health(ended, nobody); !errors.Is(err, context.Canceled) {
		t.Errorf("Health = %v, want context.Canceled", err)
	}
}

func TestDeadlineOfASilentServer(t *testing.T) {
	// It accepts connections and says nothing.
	l := silent(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := etcd.Health(ctx, etcd.Endpoint{URL: "http://" + l}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Health = %v, want context.DeadlineExceeded", err)
	}
}

func TestBadEndpoints(t *testing.T) {
	for _, u := range []string{"", "127.0.0.1:2379", "https://127.0.0.1:2379"} {
		if err := etcd.Health(t.Context(), etcd.Endpoint{URL: u}); err == nil {
			t.Errorf("Health(%q): no error", u)
		}
	}
}

func TestTLS(t *testing.T) {
	ours, foreign := newPKI(t), newPKI(t)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	s := serve(t, t.TempDir(), func(c *embed.Config) {
		c.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
		c.AdvertiseClientUrls = c.ListenClientUrls
		c.ClientTLSInfo = transport.TLSInfo{
			TrustedCAFile: file("ca.crt", ours.ca), CertFile: file("s.crt", ours.cert), KeyFile: file("s.key", ours.key),
			ClientCertAuth: true,
		}
	})
	var err error
	if s.Endpoint.TLS, err = etcd.TLSFromPEM(ours.ca, ours.cert, ours.key); err != nil {
		t.Fatal(err)
	}
	if err := etcd.Health(t.Context(), s.Endpoint); err != nil {
		t.Errorf("Health: %v", err)
	}
	path := filepath.Join(vault(t), "snap.db")
	if _, err := etcd.Save(t.Context(), s.Endpoint, path); err != nil {
		t.Errorf("Save: %v", err)
	}
	if _, err := etcd.HashKV(t.Context(), s.Endpoint, 0); err != nil {
		t.Errorf("HashKV: %v", err)
	}

	wrong, err := etcd.TLSFromPEM(foreign.ca, ours.cert, ours.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := etcd.Health(t.Context(), etcd.Endpoint{URL: s.Endpoint.URL, TLS: wrong}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with a foreign authority: %v, want it to speak of the certificate", err)
	}
	without, err := etcd.TLSFromPEM(ours.ca, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := etcd.Health(t.Context(), etcd.Endpoint{URL: s.Endpoint.URL, TLS: without}); err == nil {
		t.Error("without a client certificate: no error")
	}
	for name, pem := range map[string]pki{
		"no authority": {ca: []byte("x"), cert: ours.cert, key: ours.key},
		"foreign key":  {ca: ours.ca, cert: ours.cert, key: foreign.key},
		"no key":       {ca: ours.ca, cert: ours.cert},
	} {
		if _, err := etcd.TLSFromPEM(pem.ca, pem.cert, pem.key); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: the error shows key material: %v", name, err)
		}
	}
}
