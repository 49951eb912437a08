package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Deadlines of a single question, for callers whose context has none that is nearer.
const (
	askTimeout  = 10 * time.Second
	hashTimeout = 2 * time.Minute
)

// Endpoint says how to reach one etcd member.
type Endpoint struct {
	// URL is one of the member's client URLs, for example https://172.18.0.2:2379.
	URL string
	// TLS is used for https URLs; see TLSFromPEM.
	TLS *tls.Config
	// User and Password are for an etcd whose own access control is on; empty for others.
	User, Password string
}

// TLSFromPEM returns the configuration of a TLS client that trusts the certificates in ca, and shows the certificate and
// key in cert and key; both are left out when the server doesn't ask for them. All are PEM. The key stays in
// memory: nothing is written to disk.
func TLSFromPEM(ca, cert, key []byte) (*tls.Config, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("no certificate found in the PEM data of etcd's certificate authority; " +
			"kubeadm keeps it in /etc/kubernetes/pki/etcd/ca.crt")
	}
	cfg := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if len(cert) == 0 && len(key) == 0 {
		return cfg, nil
	}
	// X509KeyPair's errors describe what it found, never the key itself.
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("etcd client certificate and key: %w; kubeadm keeps a pair in "+
			"/etc/kubernetes/pki/etcd/healthcheck-client.crt and .key", err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

// dial makes a client for the one member. No connection is made before the first question.
func dial(ctx context.Context, ep Endpoint) (*clientv3.Client, error) {
	switch {
	case ep.URL == "":
		return nil, errors.New("no etcd endpoint given; it looks like https://172.18.0.2:2379")
	case !strings.HasPrefix(ep.URL, "http://") && !strings.HasPrefix(ep.URL, "https://"):
		return nil, fmt.Errorf("etcd endpoint %q: want http://HOST:PORT or https://HOST:PORT", ep.URL)
	case strings.HasPrefix(ep.URL, "https://") && ep.TLS == nil:
		return nil, fmt.Errorf("etcd endpoint %s: https needs a TLS configuration with etcd's certificate authority", ep.URL)
	}
	cli, err := clientv3.New(clientv3.Config{
		Context:   ctx,
		Endpoints: []string{ep.URL},
		TLS:       ep.TLS,
		Username:  ep.User,
		Password:  ep.Password,
		Logger:    zap.NewNop(),
		// A question is put once, and not held back until there is a connection. The client would wait and retry until the
		// context ends, and then report only that it ended; like this the error says at once what is wrong: connection
		// refused, a bad certificate, no leader. Whoever wants to wait asks again.
		MaxUnaryRetries: 1,
		DialOptions: []grpc.DialOption{
			grpc.WithChainUnaryInterceptor(failFast),
			grpc.WithChainStreamInterceptor(failFastStream),
		},
		// Without pings a stream from a machine that has gone would never end.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("etcd endpoint %s: %w", ep.URL, err)
	}
	return cli, nil
}

// failFast overrules the client's own default, which is to wait for a connection.
func failFast(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, conn, append(opts, grpc.WaitForReady(false))...)
}

func failFastStream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return open(ctx, desc, conn, method, append(opts, grpc.WaitForReady(false))...)
}

// ask runs one question against the member within its own deadline.
func ask[T any](ctx context.Context, ep Endpoint, limit time.Duration, what string,
	question func(context.Context, *clientv3.Client) (T, error),
) (T, error) {
	var none T
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cli, err := dial(ctx, ep)
	if err != nil {
		return none, err
	}
	// What Close says about a connection that is no longer wanted tells nobody anything.
	defer func() { _ = cli.Close() }()
	answer, err := question(ctx, cli)
	if err != nil {
		return none, fmt.Errorf("%s of etcd at %s: %w", what, ep.URL, explain(ctx, err))
	}
	return answer, nil
}

// explain makes errors of a context that ended recognisable by errors.Is: gRPC reports them by its own codes. And it says what etcd's own words for the want of a user mean.
func explain(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (last seen: %w)", cause, err)
	}
	if errors.Is(rpctypes.Error(err), rpctypes.ErrUserEmpty) {
		return fmt.Errorf("%w: its own access control is on; give the name and the password of one of its users, or a client certificate of which the common name is a user's", err)
	}
	return err
}

// Health returns nil when the member is healthy in the sense of `etcdctl endpoint health`: a linearizable read goes
// through, which takes a leader and a quorum, and no alarm is raised. An alarm yields an error that wraps ErrAlarm
// and names it (NOSPACE, CORRUPT) and the member that raised it.
//
// The read asks for the key "health", as etcdctl does; it need not exist, and a refusal for want of permission
// counts as an answer, since that too went through consensus.
func Health(ctx context.Context, ep Endpoint) error {
	_, err := ask(ctx, ep, askTimeout, "health", func(ctx context.Context, cli *clientv3.Client) (struct{}, error) {
		var done struct{}
		if _, err := cli.Get(ctx, "health", clientv3.WithKeysOnly()); err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied) {
			return done, fmt.Errorf("a linearizable read failed: %w", err)
		}
		alarms, err := cli.AlarmList(ctx)
		if err != nil {
			return done, fmt.Errorf("the read went through, but the list of alarms could not be read: %w", err)
		}
		if len(alarms.Alarms) == 0 {
			return done, nil
		}
		var names []string
		for _, a := range alarms.Alarms {
			names = append(names, fmt.Sprintf("%s on member %x", a.GetAlarm(), a.GetMemberID()))
		}
		return done, fmt.Errorf("%w: %s; %s", ErrAlarm, strings.Join(names, ", "), alarmHint(alarms.Alarms))
	})
	return err
}

// alarmHint follows https://etcd.io/docs/v3.6/op-guide/maintenance/#space-quota and .../op-guide/data_corruption/.
func alarmHint(alarms []*etcdserverpb.AlarmMember) string {
	if slices.ContainsFunc(alarms, func(a *etcdserverpb.AlarmMember) bool { return a.GetAlarm() == etcdserverpb.AlarmType_CORRUPT }) {
		return "compare `etcdctl endpoint hashkv` of all members and replace the one that differs"
	}
	return "compact and defragment, then run `etcdctl alarm disarm`"
}

// Status is what one member says about itself.
type Status struct {
	// Version is the version of the server, for example 3.7.0.
	Version string
	// StorageVersion is the version of the format that it stores in, for example 3.7.0; empty before etcd 3.6.
	StorageVersion string
	ClusterID      uint64
	MemberID       uint64
	// Leader says whether this member is its cluster's leader; LeaderID is who is, 0 when there is none.
	Leader   bool
	LeaderID uint64
	// Learner says whether it is a learner, which has no vote.
	Learner bool
	// Revision is the key-value store's revision on this member.
	Revision int64
	// DBSize is the size of the database file in bytes, DBSizeInUse what of it is in use, DBSizeQuota where the alarm
	// NOSPACE is raised (0 before etcd 3.6).
	DBSize, DBSizeInUse, DBSizeQuota int64
	RaftTerm                         uint64
	RaftIndex, RaftAppliedIndex      uint64
	// Errors is what the member itself complains about: alarms, no leader.
	Errors []string
}

// StatusOf asks one member about itself, as `etcdctl endpoint status` does. The member answers from its own memory: a
// status says nothing about whether there is a quorum.
func StatusOf(ctx context.Context, ep Endpoint) (Status, error) {
	return ask(ctx, ep, askTimeout, "status", statusFrom)
}

func statusFrom(ctx context.Context, cli *clientv3.Client) (Status, error) {
	r, err := cli.Status(ctx, cli.Endpoints()[0])
	if err != nil {
		return Status{}, err
	}
	return Status{
		Version: r.Version, StorageVersion: r.StorageVersion,
		ClusterID: r.Header.GetClusterId(), MemberID: r.Header.GetMemberId(),
		Leader: r.Leader != 0 && r.Leader == r.Header.GetMemberId(), LeaderID: r.Leader, Learner: r.IsLearner,
		Revision: r.Header.GetRevision(),
		DBSize:   r.DbSize, DBSizeInUse: r.DbSizeInUse, DBSizeQuota: r.DbSizeQuota,
		RaftTerm: r.RaftTerm, RaftIndex: r.RaftIndex, RaftAppliedIndex: r.RaftAppliedIndex,
		Errors: r.Errors,
	}, nil
}

// Member is one member of an etcd cluster.
type Member struct {
	ID uint64
	// Name is empty until the member has started for the first time.
	Name                 string
	PeerURLs, ClientURLs []string
	Learner              bool
	// Started says whether the member ever started and made itself known, which is what etcdctl calls started; it does not say that it runs now.
	Started bool
}

// Members asks a member, by a linearizable read, who is in its cluster; ordered by name.
func Members(ctx context.Context, ep Endpoint) ([]Member, error) {
	return ask(ctx, ep, askTimeout, "member list", func(ctx context.Context, cli *clientv3.Client) ([]Member, error) {
		r, err := cli.MemberList(ctx)
		if err != nil {
			return nil, err
		}
		var out []Member
		for _, m := range r.Members {
			out = append(out, Member{
				ID: m.GetID(), Name: m.GetName(), PeerURLs: m.GetPeerURLs(), ClientURLs: m.GetClientURLs(),
				Learner: m.GetIsLearner(), Started: m.GetName() != "",
			})
		}
		slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
		return out, nil
	})
}

// AddLearner adds a member without a vote, which has yet to start, to the cluster of the endpoint, and returns its ID. A member that never starts
// does no harm as a learner; with a vote it would count towards the quorum (https://etcd.io/docs/v3.6/learning/design-learner/).
func AddLearner(ctx context.Context, ep Endpoint, peerURLs ...string) (uint64, error) {
	return ask(ctx, ep, askTimeout, "adding a learner", func(ctx context.Context, cli *clientv3.Client) (uint64, error) {
		r, err := cli.MemberAddAsLearner(ctx, peerURLs)
		if err != nil {
			return 0, err
		}
		return r.Member.GetID(), nil
	})
}

// RemoveMember removes a member from the cluster of the endpoint.
func RemoveMember(ctx context.Context, ep Endpoint, id uint64) error {
	_, err := ask(ctx, ep, askTimeout, "removing a member", func(ctx context.Context, cli *clientv3.Client) (struct{}, error) {
		_, err := cli.MemberRemove(ctx, id)
		return struct{}{}, err
	})
	return err
}

// KVHash is the hash of a member's key-value history.
type KVHash struct {
	// Hash covers the history from CompactRevision to HashRevision. Hashes may be compared only where both are equal.
	Hash                          uint32
	CompactRevision, HashRevision int64
	// Revision is the member's revision when it answered.
	Revision int64
	MemberID uint64
}

// HashKV asks one member for the hash of its history up to a revision, or up to its own latest when revision is 0.
// To compare members, ask the first with 0 and the others for its HashRevision, as etcd's own corruption check
// does (https://etcd.io/docs/v3.6/op-guide/data_corruption/).
func HashKV(ctx context.Context, ep Endpoint, revision int64) (KVHash, error) {
	if revision < 0 {
		return KVHash{}, fmt.Errorf("hash of etcd's history at revision %d: a revision is never negative", revision)
	}
	return ask(ctx, ep, hashTimeout, "hash", func(ctx context.Context, cli *clientv3.Client) (KVHash, error) {
		r, err := cli.HashKV(ctx, ep.URL, revision)
		if err != nil {
			return KVHash{}, err
		}
		return KVHash{
			Hash: r.Hash, CompactRevision: r.CompactRevision, HashRevision: r.HashRevision,
			Revision: r.Header.GetRevision(), MemberID: r.Header.GetMemberId(),
		}, nil
	})
}
