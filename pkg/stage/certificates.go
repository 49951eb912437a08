package stage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/etcd-drill/drill/pkg/cluster"
)

// certificate is one without which a control plane does not come back when it is started anew.
type certificate struct {
	// of says whose it is and what for.
	of string
	// file is where it lies on the node, as PEM or in a kubeconfig.
	file string
	// pem is its content, certificates alone; empty until it is read.
	pem []byte
	// byKubelet says that kubelet renews it, and not kubeadm.
	byKubelet bool
	// authority says that it is what others are checked by. A file of these may hold several, as it does while one replaces another, and one of them that is valid is enough.
	authority bool
}

// Where kubeadm keeps kubeconfigs on a control plane (https://kubernetes.io/docs/setup/best-practices/certificates/#configure-certificates-for-user-accounts).
const (
	configDir     = "/etc/kubernetes/"
	kubeletConfig = configDir + "kubelet.conf"
)

// kubeconfigs reads which certificates the kubeconfigs of the control plane hold, or name. One that isn't there is left out: an administrator may keep
// admin.conf elsewhere, and who can do without the others has done so already.
func (s *survey) kubeconfigs(ctx context.Context) []certificate {
	owners := map[string]string{
		configDir + "admin.conf":              "the administrator",
		configDir + "controller-manager.conf": "the controller manager",
		configDir + "scheduler.conf":          "the scheduler",
		kubeletConfig:                         "kubelet",
	}
	files := []string{configDir + "admin.conf", configDir + "controller-manager.conf", configDir + "scheduler.conf", kubeletConfig}
	// What is secret in a kubeconfig stays on the node: the lines with keys, tokens and passwords are left out. They are one line each, as client-go writes
	// them. With its file's name before it each line can be told from those of the next file.
	argv := append([]string{
		"grep", "--no-messages", "--with-filename", "--invert-match", "--extended-regexp", "--regexp", `(client-key-data|token|password)["']?[[:space:]]*:`, "--",
	}, files...)
	var out bytes.Buffer
	if _, err := s.node.Exec(ctx, cluster.Cmd{Argv: argv, Stdout: &out}); err != nil && !ran(err) { // status 2: one of the files isn't there
		s.unreachable(err)
		return nil
	}
	content := map[string][]byte{}
	for line := range strings.Lines(out.String()) {
		if file, text, ok := strings.Cut(line, ":"); ok {
			content[file] = append(content[file], text...)
		}
	}
	var found []certificate
	for _, file := range files {
		if content[file] == nil {
			continue
		}
		c, err := clientCertificate(content[file], file)
		if err != nil {
			s.refuse(Refusal{
				What: "a kubeconfig can't be read", Err: fmt.Errorf("%s: %w", file, err), Want: "a kubeconfig as kubeadm writes it",
				Hint: "`kubeadm init phase kubeconfig` writes one that was moved away; see " + certsPage,
			})
			continue
		}
		if c != nil {
			c.of, c.byKubelet = "the client certificate of "+owners[file], file == kubeletConfig
			found = append(found, *c)
		}
	}
	return found
}

// clientCertificate is the one of the user whom the kubeconfig's current context names; nil where that user has none.
func clientCertificate(kubeconfig []byte, file string) (*certificate, error) {
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, err
	}
	current, ok := config.Contexts[config.CurrentContext]
	if !ok {
		return nil, nil
	}
	user, ok := config.AuthInfos[current.AuthInfo]
	switch {
	case !ok:
		return nil, nil
	case len(user.ClientCertificateData) > 0:
		return &certificate{file: file, pem: user.ClientCertificateData}, nil
	case path.IsAbs(user.ClientCertificate):
		return &certificate{file: user.ClientCertificate}, nil
	case user.ClientCertificate != "":
		return &certificate{file: path.Join(path.Dir(file), user.ClientCertificate)}, nil
	default:
		return nil, nil
	}
}

// certificates makes sure that those of the control plane are valid, by the node's clock and by this machine's.
func (s *survey) certificates(ctx context.Context, kubeconfigs []certificate) {
	all := []certificate{
		{of: "etcd's serving certificate", file: s.etcd.Cert},
		{of: "etcd's certificate towards other members", file: s.etcd.PeerCert},
		{of: "the API server's certificate towards etcd", file: s.server.EtcdCert},
		{of: "the API server's serving certificate", file: s.server.Cert},
	}
	for _, a := range []certificate{
		{of: "the authority by which etcd knows its clients", file: s.etcd.CACert, authority: true},
		{of: "the authority by which etcd knows its peers", file: s.etcd.PeerCA, authority: true},
		{of: "the authority by which the API server knows etcd", file: s.server.EtcdCA, authority: true},
		{of: "the authority by which the API server knows its clients", file: s.server.ClientCA, authority: true},
	} {
		if !slices.ContainsFunc(all, func(b certificate) bool { return b.file == a.file }) { // kubeadm has one for all of etcd's
			all = append(all, a)
		}
	}
	all = append(all, kubeconfigs...)
	if !s.readCertificates(ctx, all) {
		return
	}
	var bad, badOfKubelet, badAuthorities []string
	for _, c := range all {
		if c.file == "" { // the manifest names none
			continue
		}
		if trouble := c.trouble(s.skew); trouble != "" {
			seen := fmt.Sprintf("%s (%s) %s", c.of, c.file, trouble)
			switch {
			case c.byKubelet:
				badOfKubelet = append(badOfKubelet, seen)
			case c.authority:
				badAuthorities = append(badAuthorities, seen)
			default:
				bad = append(bad, seen)
			}
		}
	}
	now := time.Now().UTC()
	clocks := fmt.Sprintf("; it is %s here and %s there", now.Format(time.RFC3339), now.Add(s.skew).Format(time.RFC3339))
	const want = "valid certificates: what is started anew with others is turned away, and the control plane does not come back"
	if len(bad) > 0 {
		s.refuse(Refusal{
			What: "certificates of its control plane are not valid", Seen: strings.Join(bad, ", ") + clocks, Want: want,
			Hint: "compare the clocks; `kubeadm certs check-expiration` on the node lists all, `kubeadm certs renew all` renews them, and then the static pods have to be restarted: " + certsPage,
		})
	}
	if len(badAuthorities) > 0 {
		s.refuse(Refusal{
			What: "authorities of its control plane are not valid", Seen: strings.Join(badAuthorities, ", ") + clocks, Want: want,
			Hint: "compare the clocks; `kubeadm certs renew` leaves authorities alone, see " + authorityPage,
		})
	}
	if len(badOfKubelet) > 0 {
		s.refuse(Refusal{
			What: "kubelet's certificate is not valid", Seen: strings.Join(badOfKubelet, ", ") + clocks, Want: want,
			Hint: "compare the clocks; `kubeadm certs renew` leaves this one alone, see " + kubeletPage,
		})
	}
}

// readCertificates reads those that are files of their own, but not the keys that may be in the same files. It says whether the node was reached; a file
// that isn't there, or has no certificate in it, leaves pem empty.
func (s *survey) readCertificates(ctx context.Context, all []certificate) bool {
	// The name of each file comes first, and then those of its lines that belong to certificates.
	argv := []string{
		"sed", "--quiet", "--separate", "--expression", "1F", "--expression", "/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/p", "--",
	}
	byFile := map[string][]byte{}
	for _, c := range all {
		if _, named := byFile[c.file]; c.file != "" && len(c.pem) == 0 && !named {
			byFile[c.file] = nil
			argv = append(argv, c.file)
		}
	}
	if len(byFile) == 0 {
		return true
	}
	var out bytes.Buffer
	if _, err := s.node.Exec(ctx, cluster.Cmd{Argv: argv, Stdout: &out}); err != nil && !ran(err) { // status 2: one of the files isn't there
		s.unreachable(err)
		return false
	}
	file := ""
	for line := range strings.Lines(out.String()) {
		if _, named := byFile[strings.TrimSpace(line)]; named {
			file = strings.TrimSpace(line)
			continue
		}
		byFile[file] = append(byFile[file], line...)
	}
	for i := range all {
		if len(all[i].pem) == 0 {
			all[i].pem = byFile[all[i].file]
		}
	}
	return true
}

// trouble says what is wrong with the certificate; "" when it is valid now by this machine's clock, and by one that is ahead of it by skew. Of several in a file the first is the one that is shown,
// the others being those of authorities.
func (c certificate) trouble(skew time.Duration) string {
	all, err := parseCertificates(c.pem)
	switch {
	case err != nil:
		return "can't be read: " + err.Error()
	case !c.authority:
		return invalid(all[0], skew)
	}
	first := ""
	for _, one := range all {
		trouble := invalid(one, skew)
		if trouble == "" {
			return ""
		}
		first = cmp.Or(first, trouble)
	}
	return first
}

func invalid(c *x509.Certificate, skew time.Duration) string {
	here := time.Now()
	for _, now := range []time.Time{here, here.Add(skew)} {
		switch {
		case now.After(c.NotAfter):
			return "expired at " + c.NotAfter.UTC().Format(time.RFC3339)
		case now.Before(c.NotBefore):
			return "is not valid before " + c.NotBefore.UTC().Format(time.RFC3339)
		}
	}
	return ""
}

// parseCertificates reads those that are there in PEM, of which there must be one. What can't be read beside others is left out, as the servers do.
func parseCertificates(content []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	err := errors.New("the file is not there, or holds no certificate")
	for rest := content; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil && len(all) == 0:
			return nil, err
		case block == nil:
			return all, nil
		case block.Type == "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				all = append(all, c)
			}
		}
	}
}
