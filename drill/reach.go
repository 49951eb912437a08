package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcd-drill/drill/pkg/etcd"
	"github.com/etcd-drill/drill/pkg/stage"
)

// reachFlags say which etcd is meant: that of a kind cluster, or one at an address, with certificates.
type reachFlags struct {
	cluster                   string
	endpoints                 []string
	caFile, certFile, keyFile string
	user, password            string
}

// reachNames are the flags, but for --cluster, which takes the place of all of them.
func reachNames() []string { return []string{"endpoints", "cacert", "cert", "key", "user", "password"} }

const reachHelp = `The etcd is that of --cluster, a kind cluster, whose addresses and certificates are found, or the one at --endpoints, with certificates as
etcdctl has them. Where neither is given, $ETCDCTL_ENDPOINTS, $ETCDCTL_CACERT, $ETCDCTL_CERT, $ETCDCTL_KEY, $ETCDCTL_USER and $ETCDCTL_PASSWORD are used. On a control plane that kubeadm
has set up these are https://127.0.0.1:2379 and the files ca.crt, healthcheck-client.crt and healthcheck-client.key in /etc/kubernetes/pki/etcd.`

// The names of the flags, which are etcdctl's, and of the variables that stand in for them.
func (r *reachFlags) variables() map[string]string {
	return map[string]string{"endpoints": "ETCDCTL_ENDPOINTS", "cacert": "ETCDCTL_CACERT", "cert": "ETCDCTL_CERT", "key": "ETCDCTL_KEY", "user": "ETCDCTL_USER", "password": "ETCDCTL_PASSWORD"}
}

// add defines the flags of a command.
func (r *reachFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.cluster, "cluster", "", "a kind cluster")
	f.StringSliceVar(&r.endpoints, "endpoints", nil, "address of an etcd, for example https://10.0.0.1:2379 (default $ETCDCTL_ENDPOINTS)")
	f.StringVar(&r.caFile, "cacert", "", "certificate of the authority that etcd's certificate is of, in PEM (default $ETCDCTL_CACERT)")
	f.StringVar(&r.certFile, "cert", "", "client certificate, in PEM (default $ETCDCTL_CERT)")
	f.StringVar(&r.keyFile, "key", "", "key of the client certificate, in PEM (default $ETCDCTL_KEY)")
	f.StringVar(&r.user, "user", "", "NAME or NAME:PASSWORD of a user, where etcd's own access control is on (default $ETCDCTL_USER)")
	f.StringVar(&r.password, "password", "", "password of the user, which is better given as $ETCDCTL_PASSWORD: others can see arguments")
	for _, name := range []string{"cacert", "cert", "key"} {
		_ = cmd.MarkFlagFilename(name)
	}
}

// given says whether any of the flags was.
func (r *reachFlags) given(cmd *cobra.Command) bool {
	return slices.ContainsFunc(append(reachNames(), "cluster"), cmd.Flags().Changed)
}

// parse checks all that can be known to be wrong without asking anybody.
func (r *reachFlags) parse(cmd *cobra.Command, getenv func(string) string) (func(context.Context, *App) (etcd.Endpoint, error), error) {
	for _, name := range append(reachNames(), "cluster") {
		if f := cmd.Flags().Lookup(name); f.Changed && strings.Trim(f.Value.String(), "[]") == "" { // a variable that isn't set, most likely
			return nil, usagef("--%s is given and empty", name)
		}
	}
	if r.cluster != "" {
		for _, name := range reachNames() {
			if cmd.Flags().Changed(name) {
				return nil, usagef("--cluster finds the address and the certificates itself: leave --%s out, or --cluster", name)
			}
		}
		return r.fromCluster, nil
	}
	for name, variable := range r.variables() {
		if value := getenv(variable); value != "" && !cmd.Flags().Changed(name) {
			if err := cmd.Flags().Set(name, value); err != nil {
				return nil, usagef("$%s: %w", variable, err)
			}
		}
	}
	switch {
	case len(r.endpoints) == 0:
		return nil, usagef("which etcd? name a kind cluster with --cluster, or an address with --endpoints")
	case len(r.endpoints) > 1:
		return nil, usagef("--endpoints has %d addresses, and one member is asked: name one of them; its leader's is as good as another's", len(r.endpoints))
	}
	ep, err := r.endpoint()
	if err != nil {
		return nil, err
	}
	if ep.User, ep.Password, err = r.account(); err != nil {
		return nil, err
	}
	return func(context.Context, *App) (etcd.Endpoint, error) { return ep, nil }, nil
}

// account is the user and the password, as etcdctl takes them.
func (r *reachFlags) account() (user, password string, err error) {
	user, password, both := strings.Cut(r.user, ":")
	switch {
	case r.user == "" && r.password != "":
		return "", "", usagef("a password is given and no --user")
	case both && r.password != "":
		return "", "", usagef("--user has a password, and another one is given; leave one of them out")
	case user != "" && !both && r.password == "":
		return "", "", usagef("--user %s needs a password: set $ETCDCTL_PASSWORD", user)
	case !both:
		password = r.password
	}
	return user, password, nil
}

// endpoint reads the files.
func (r *reachFlags) endpoint() (etcd.Endpoint, error) {
	ep := etcd.Endpoint{URL: r.endpoints[0]}
	if !strings.Contains(ep.URL, "://") {
		ep.URL = "http://" + ep.URL // as etcdctl has it
		if r.caFile != "" || r.certFile != "" {
			ep.URL = "https://" + r.endpoints[0]
		}
	}
	u, err := url.Parse(ep.URL)
	switch {
	case err != nil:
		return ep, usagef("--endpoints: %w", err)
	case u.User != nil: // it would be shown, and noted beside the snapshot
		return ep, usagef("--endpoints has a user in its address; give --user, and $ETCDCTL_PASSWORD")
	case u.Scheme != "http" && u.Scheme != "https" || u.Port() == "":
		return ep, usagef("--endpoints %s: it looks like https://HOST:2379", r.endpoints[0])
	case u.Scheme == "http" && (r.caFile != "" || r.certFile != "" || r.keyFile != ""):
		return ep, usagef("--endpoints %s is reached without certificates, and some are given with --cacert, --cert or --key, or with $ETCDCTL_CACERT, $ETCDCTL_CERT or $ETCDCTL_KEY: write https", r.endpoints[0])
	case u.Scheme == "http":
		return ep, nil
	case r.caFile == "":
		return ep, usagef("--endpoints %s needs --cacert; kubeadm keeps it in /etc/kubernetes/pki/etcd/ca.crt", r.endpoints[0])
	case (r.certFile == "") != (r.keyFile == ""):
		return ep, usagef("--cert and --key go together")
	}
	var content [3][]byte
	for i, file := range []struct{ flag, path string }{{"cacert", r.caFile}, {"cert", r.certFile}, {"key", r.keyFile}} {
		if file.path == "" {
			continue
		}
		if content[i], err = os.ReadFile(file.path); err != nil {
			return ep, usagef("--%s: %w", file.flag, err)
		}
	}
	if ep.TLS, err = etcd.TLSFromPEM(content[0], content[1], content[2]); err != nil {
		return ep, usageError{err}
	}
	if block, _ := pem.Decode(content[1]); block != nil {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && time.Now().After(c.NotAfter) {
			return ep, usagef("--cert %s was valid until %s, and etcd accepts it no more", r.certFile, c.NotAfter.Local().Format(time.DateTime))
		}
	}
	return ep, nil
}

// fromCluster finds a member of a kind cluster's etcd that answers.
func (r *reachFlags) fromCluster(ctx context.Context, a *App) (etcd.Endpoint, error) {
	provider, err := a.provider(ctx, nil)
	if err != nil {
		return etcd.Endpoint{}, err
	}
	c, err := provider.Attach(ctx, r.cluster)
	if err != nil {
		return etcd.Endpoint{}, err
	}
	endpoints, err := stage.Endpoints(ctx, c)
	if err != nil {
		return etcd.Endpoint{}, fmt.Errorf("cluster %s: %w", r.cluster, err)
	}
	var last error
	for _, ep := range endpoints {
		if _, last = etcd.StatusOf(ctx, ep); last == nil {
			return ep, nil
		}
	}
	return etcd.Endpoint{}, fmt.Errorf("no etcd of cluster %s answers: %w", r.cluster, last)
}
