/* Every limit of the system, by name. A number that bounds memory, time or a count stands here and nowhere else. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

enum {
  /* names */
  LABEL_RANDOM_BYTES = 15,                 /* 120 bits */
  LABEL_CHARS = 24,                        /* 120 bits in base32 */
  HOST_NAME_MAX_CHARS = 253,
  ALPN_LIST_MAX_BYTES = 255,
  ALLOW_CIDRS_MAX = 64,                    /* and as many that are denied */
  UNIX_PATH_MAX_BYTES = 107,               /* of a Unix socket: sun_path, without a NUL */
  TUNNEL_NAME_MAX_BYTES = 64,              /* what a host calls a tunnel */

  /* TLS */
  RECORD_PLAIN_MAX = 16384,                /* RFC 8446 5.1 */
  RECORD_CIPHER_MAX = 16384 + 256,         /* RFC 8446 5.2 */
  RECORD_HEADER_BYTES = 5,
  RECORD_OVERHEAD_BYTES = 5 + 1 + 16,      /* TLS 1.3: header, inner content type, AEAD tag */
  RECORD_OVERHEAD_MAX = 5 + 8 + 16,        /* of any version: TLS 1.2 has a nonce in front and no inner type */
  CLIENT_HELLO_MAX_BYTES = 32768,          /* with the headers of its records: these, and so their number, are bounded
                                              with it */
  HANDSHAKE_MAX_BYTES = 2 * CLIENT_HELLO_MAX_BYTES + 4096, /* that a client may send: two ClientHellos, and what
                                                              completes the handshake */
  HANDSHAKE_READS_PER_TURN_MAX = 16,       /* of one newcomer; a record takes two, however small */
  TLS_SECRET_MAX_BYTES = 48,
  AUTHORITY_RENEW_BEFORE_DAYS = 90,        /* a relay's own authority is replaced when so near its end */
#ifdef ADIT_SMALL_LIMITS
  RECORDS_PER_KEY_MAX = 64,
#else
  RECORDS_PER_KEY_MAX = 1 << 24,           /* below the 2^24.5 of RFC 8446 5.5 for AES-GCM */
#endif

  /* control link */
  FRAME_BODY_MAX_BYTES = 16384,
  FRAME_BEFORE_AUTH_MAX_BYTES = 8192,
  AGENT_SOFTWARE_MAX_CHARS = 32,           /* an agent's name and version, as it says */
  LINK_OUT_MAX_BYTES = 262144,
  LINKS_SPARE_PER_TOKEN = 16,              /* a token for 3 tunnels may have 19 links: those that broke unnoticed count
                                              until LINK_SILENCE_MAX_MS, while their agents are back already */
  LINK_TUNNELS_MAX = 1000,                 /* what one link may ask for, whatever its token allows */
  LINK_FRAMES_PER_TURN_MAX = 16,           /* of one link; whoever sends more waits for everybody else in between */
#ifdef ADIT_SMALL_LIMITS
  HEARTBEAT_MS = 1000,
  LINK_SILENCE_MAX_MS = 5000,
  MOVE_CHECK_MS = 2000,
#else
  HEARTBEAT_MS = 10000,
  LINK_SILENCE_MAX_MS = 25000,             /* no frame for so long: the link is lost */
  MOVE_CHECK_MS = 5000,                    /* so long an agent stands still, and says nothing, while its next program
                                              looks at what it would be given */
#endif
  LINK_HELLO_DEADLINE_MS = 10000,
  RECONNECT_EARLY_MIN_MS = 50,
  RECONNECT_EARLY_MAX_MS = 400,
  RECONNECT_EARLY_FOR_MS = 5000,
  RECONNECT_MAX_MS = 30000,
  AGENT_CONNECT_DEADLINE_MS = 10000,

  /* data connections */
  WARM_QUIET = 2,
  WARM_MAX = 256,
  WARM_DECAY_MS = 5000,
  DATA_NUMBER_WINDOW = 1024,
  DATA_SKIPPED_KEY_LIFE_MS = 30000,
  PREFACE_DEADLINE_MS = 5000,
  ACCEPT_DEADLINE_MS = 5000,
  VISITOR_WAIT_MS = 5000,
  VISITOR_SEEK_MS = 1000,                  /* of these, when its tunnel's link was lost: for the agent to come back */
  VISITOR_SEEK_STEP_MS = 50,
  VISITORS_WAITING_PER_TUNNEL_MAX = 4096,
  VISITORS_WAITING_PER_OWNER_MAX = 8192,
  OPEN_BODY_MAX_BYTES = 512,
  WRAP_RECORDS = 4,                        /* of the TLS around a data connection: so many are read, or made, at a
                                              time */
  WRAP_IDLE_RECORDS_MAX = 32,              /* without data; and one more for every DATA_RECORDS_PER_IDLE with */
  WRAPPED_PREFACE_MAX_BYTES = 256,         /* of the record that holds the preface, padding included */

  /* visitors */
  HANDSHAKE_DEADLINE_MS = 10000,
  SHARE_OF_FREE = 2,                       /* an owner may have so many times the descriptors that are free */
  SHARE_RESERVE_PART = 8,                  /* of all, one part in so many is for links, raw ports and data
                                              connections */
  SHARE_STRANGERS_PART = 8,                /* one for connections that have not said whom they want */
  SHARE_ADMIN_PART = 8,                    /* and before all this at most one for the admin port and for files, */
  SHARE_PUMP_PART = 16,                    /* one for pipes, and one for sockets that linger */
  ADMIN_DESCRIPTORS = 64,                  /* kept for the admin port and for files */
  STRANGERS_PER_WORKER_MIN = 4,
  SHARES_MIN = 16,                         /* for owners, also where that is more than there are: one agent and some
                                              visitors */
  NOTICE_EVERY_MS = 10000,                 /* an agent is told of refused visitors of a tunnel at most once in so
                                              long */
  DRAIN_VISITORS_MS = 2000,                /* so long after SIGTERM links stay up for visitors in handshake, and for
                                              nobody else */
  HANDSHAKES_PER_SOURCE_MAX = 512,         /* unfinished, at all workers together */
  HANDSHAKES_PER_SOURCE_SPARE = HANDSHAKES_PER_SOURCE_MAX / 4,   /* beyond that, of all workers together */
  HANDSHAKES_PER_SOURCE_SPARE_MIN = 8,     /* and so many at each of them at least */
  HANDSHAKE_BYTES = 48 << 10,              /* what one takes, OpenSSL's objects for it included */
  HANDSHAKE_MEMORY_PER_WORKER_BYTES = 32 << 20,  /* for connections that are nobody's yet; `--handshake-memory` sets the
                                                    sum */
  HANDSHAKE_MEMORY_PER_WORKER_MIN_BYTES = 4 * HANDSHAKE_BYTES,
  NEWCOMERS_QUEUED_PER_WORKER_MAX = 1024,  /* for their handshake: a second's or two of signatures */
  FIBRE_STACK_BYTES = 1 << 15,             /* as OpenSSL gives its own; a handshake takes 7 KB of one */
  FIBRES_KEPT_MAX = 32,                    /* stacks of ended fibres, for the next ones of a worker */
  SIGNATURES_AT_ONCE_MAX = 16,             /* so many a worker asks of the key process at once; then newcomers queue */
  SIGNATURE_WAIT_MS = 5000,                /* so long a handshake waits for its signature, and is refused */
  SIGNATURES_GATHERED_US = 1000,           /* those that are made within so long come back in one message */
  KEY_CALL_MAX_MS = 10000,                 /* so long a worker waits for any other answer of the key process, and then
                                              the relay ends */
  PROXY_HEADER_MAX_BYTES = 536,
  REDIRECT_LINE_MAX_BYTES = 8192,          /* of a request for --redirect-http, whose target comes back in the answer */
  REDIRECT_HEAD_MAX_BYTES = 32768,         /* all its lines */

  /* streams */
  STREAM_BUFFER_BYTES = 32 * (16384 + 22), /* full records with their framing; with half as many an upload costs the
                                              agent an eighth more */
  STREAM_BUFFER_SMALL_BYTES = 16384 + 256 + 5, /* what a stream gets when BUFFERS_LENT_PER_LOOP_MAX_BYTES are out: one
                                                  record */
  STREAM_BULK_BYTES = 16384,               /* whoever moves so much at once is bulk, and others go first, ... */
  STREAM_BULK_MS = 100,                    /* until it has not for so long */
  IDLE_RECORDS_PER_TURN_MAX = 32,          /* records without data: each may cost several key derivations */
  IDLE_RECORDS_PER_S_MAX = 4096,           /* and one more for every DATA_RECORDS_PER_IDLE with data */
  DATA_RECORDS_PER_IDLE = 16,
  PIPE_BYTES = 1 << 18,                    /* never more than a buffer takes; a power of two, as the kernel would make
                                              it */
  PIPES_MAX = 256,                         /* of the process, shared out among its loops; a loop has one at least */
  BUFFERS_IDLE_PER_LOOP_MAX = 16,
  BUFFERS_LENT_PER_LOOP_MAX_BYTES = 64 << 20, /* beyond it streams move one record at a time */
  LINGER_DISCARD_MS = 5000,                /* how long a cleanly ended socket may still be discarding input */
  LINGERS_PER_LOOP_MAX = 4096,             /* sockets that outlive their stream; beyond it the oldest is closed at
                                              once */
  RESET_DELIVERY_MS = 1000,                /* how long bytes read before a reset may take to be delivered */
  RESET_DELIVERY_IN_TURNS_MS = 5000,       /* the same for a stream with a byte rate, whose bytes wait for their turns,
                                              too; no longer: whoever sends and resets, again and again, is not to fill
                                              the row */
  RESET_CHECK_MS = 10,                     /* how often it is looked whether they were */
  RESET_GRACE_MS = 300,                    /* how long a visitor may take to read an answer before its upload is
                                              reset */
  HOLD_MAX_MS = 20,                        /* how long a blocked stream may keep its pipe, or a buffer larger than what
                                              is in it */
  HOLD_SLACK_BYTES = 4096,                 /* so much larger does not matter */
  RATE_BURST_MS = 250,                     /* of a token's byte rate: what was not used for so long may be used at once,
                                              ... */
  RATE_BURST_MIN_BYTES = 16384,            /* and never less than this */
  RATE_STEP_MS = 10,                       /* a stream that waits for its turn then has so much of the rate, ... */
  RATE_STEP_MIN_BYTES = 1024,
  RATE_STEP_MAX_BYTES = 1 << 18,           /* as a pipe */
  RATE_MAX_GB_PER_S = 100,                 /* of a higher one so much is used: a clock's milliseconds times it fit 64
                                              bits for years */
  HALF_OPEN_IDLE_MS = 2 * 3600 * 1000,
  UNACKED_MAX_MS = 30000,
  WINDOW_PROBES_MAX = 4,                   /* so many in a row without an answer: the other end is gone */
  SWEEP_MS = 5000,
  KEEPALIVE_IDLE_S = 60,
  KEEPALIVE_INTERVAL_S = 15,
  KEEPALIVE_PROBES = 4,
  APP_CONNECT_DEADLINE_MS = 10000,
#ifdef ADIT_SMALL_LIMITS
  APP_WAIT_DEFAULT_MS = 1000,
  APP_WAITING_PER_TUNNEL_MAX = 16,
#else
  APP_WAIT_DEFAULT_MS = 10000,             /* how long a visitor waits for an app that has never been there */
  APP_WAITING_PER_TUNNEL_MAX = 256,        /* so many may, each with a descriptor and what the kernel takes in for it */
#endif
  APP_WAIT_MAX_MS = 10 * 60 * 1000,
  APP_WAITING_PER_CLIENT_MAX = 2 * APP_WAITING_PER_TUNNEL_MAX,
  APP_RETRY_MS = 100,                      /* how often one of them looks for it */
  APP_RETRY_NAME_MS = 1000,                /* the same where its name must be looked up for it */
  APP_LOOKUP_EVERY_MS = 10000,             /* its name may lead elsewhere by now: the next visitor has it looked up */
  UNIX_BUSY_RETRY_MS = 10,                 /* of a Unix socket where too many wait to be accepted: no event tells */

  /* memory */
  HEAP_TRIM_MIN_BYTES = 4 << 20,           /* freed since the last time, it is worth giving back to the system */
  HEAP_TRIM_EVERY_MS = 5000,               /* how often a program looks for it */

  /* loop */
  LOOP_MESSAGES_PER_TURN_MAX = 64,         /* timers and descriptors have their turn in between */
  LOOP_SHARE_BYTES = 1 << 20,              /* so much bulk moves before others are looked for; and so much of one stream
                                              before the next, */
  LOOP_SHARE_CONTENDED_BYTES = 1 << 17,    /* or this, when there are others: their wait, four times on the way to an
                                              app and back. Half of it costs a tenth more and gains little */
  LOOP_SHARED_MS = 1000,                   /* so long after an event of theirs */
  LOOP_LATE_TURN_US = 1000,                /* for newcomers, of a turn in which nobody else wants anything: so long may
                                              others wait */
  LOOP_LATE_PART = 10,                     /* else they have one part in so many of the time */
  LOOP_LATE_DEBT_TURNS_MAX = 4,            /* a late handler that took long is paid for with so many turns at most */

  /* warnings */
  WARNING_EVERY_MS = 60000,                /* of one kind at most one in so long: of what has run out, of what strangers
                                              do */

  /* agent */
  AGENT_TOKENS_MAX = 16,
  AGENT_RELAYS_MAX = 16,
  PROXY_URL_MAX_CHARS = 2048,
  PROXY_CREDENTIALS_MAX_BYTES = 512,       /* user, colon and password of an HTTP proxy */
  PROXY_HEAD_MAX_BYTES = 8192,             /* of its answer to CONNECT: all heads of it together */
  AGENT_EVENTS_MAX = 1024,
  RESOLVED_MAX = 16,                       /* addresses of one host that are tried */
  CONNECT_STAGGER_MS = 250,                /* RFC 8305 5: then the next address is tried, too */
  DATA_PROOF_MS = 2000,                    /* so soon after the preface a relay says that it has seen it, and closes
                                              none before */
  DATA_BROKEN_MS = 500,                    /* one that ends sooner, after the relay has seen some, was broken on the
                                              way */
  DATA_ENDED_EARLY_MAX = 2,                /* so many that end sooner do not get through plain */
  DATA_CHECK_MS = 5000,                    /* so long after WELCOME a data connection must stand */
  DATA_UNUSED_MAX = 6,                     /* so many that no visitor came on for DATA_CHECK_MS: a relay that sees them
                                              keeps 4, twice WARM_QUIET, and would have closed the rest */
  DATA_REDIAL_MIN_MS = 500,                /* a data connection that failed is dialled again within so long, then within
                                              twice that, ... */
  DATA_REDIAL_MAX_MS = 4000,               /* but a relay whose visitors want one is never waited for */
  TUNNEL_RETRY_MS = 5000,
  TUNNEL_ADDRESSES_MAX = 256,              /* all are kept, as the host may hold their strings */
  CUT_OFF_LOOK_MS = 50,                    /* how often a client looks for calls whose descriptors its host has
                                              closed */
  TICKET_CLOSE_MS = 5000,                  /* how long the end of a tunnel waits for a disk that hangs */
  TICKET_KEEP_MIN_MS = 60000,              /* between two writes of a renewed ticket */
  APP_WARNING_MS = 10000,                  /* at most one warning per tunnel about its app in so long */
  EMBEDDED_START_MS = 10000,
  MOVE_READY_MS = 2000,                    /* so long an agent that moves to a new program waits for who is in the
                                              midst of something */
  MOVE_LOOK_MS = 5,                        /* and looks for them */
  MOVE_PARCELS_MAX = 1 << 20,
  MOVE_START_MS = 5000,                    /* from the start of a new program until it must have said that it is one */
  TICKET_FILE_MAX_BYTES = 8192,
  TICKET_FILES_OLD_MAX = 9,                /* tickets that a relay no longer takes are kept beside the file: FILE.old,
                                              FILE.old.2, ... */

  /* tokens, tickets, ports */
  TOKEN_TEXT_MAX_CHARS = 4096,
  TOKEN_RELAYS_MAX = 16,
  TOKEN_NAME_MAX_CHARS = 64,
  TOKEN_ALLOW_MAX = 16,                    /* blocks that a narrowed token's visitors may come from */
  CHAIN_MAX = 3,                           /* certificates: the operator's, and two that narrow it; a relay checks a
                                              signature for each */
  NARROWED_REVOKED_PER_TOKEN_MAX = 4096,   /* revocations that a relay keeps, until they expire, of tokens narrowed from
                                              one of the operator's; some 200 bytes each; ... */
  NARROWED_REVOKED_BY_NARROWED_MAX = 2048, /* of these, made with tokens that are narrowed themselves, ... */
  NARROWED_REVOKED_PER_NARROWED_MAX = 512, /* and with one of them */
  NARROWED_REVOKED_SWEEP_MS = 600 * 1000,  /* between looks for those that have expired. A clock that was ahead is to be
                                              right again within that: what has expired at two looks is forgotten */
  REVOKES_PER_LINK_MAX = 64,               /* that wait for the disk; beyond it they are refused */
  TUNNELS_PER_TOKEN_DEFAULT = 100,
  TOKEN_STREAMS_MAX = 1000000,             /* what a token's limits may be set to: none lies beyond what a relay can
                                              do */
  TOKEN_VISITORS_PER_S_MAX = 1000000,
  TOKEN_BYTES_PER_S_MIN = 1000,            /* less is most likely a unit that was left out */
  TICKET_LIFE_S = 30 * 24 * 3600,
  TICKET_RENEW_S = 24 * 3600,
  PORT_QUARANTINE_S = 3600,
  PORT_EXCLUDED_S = 600,                   /* so long a raw port is left alone that another program had, or that could
                                              not be bound */
  PORTS_QUARANTINED_PER_OWNER_MIN = 8,     /* so many, or twice its tunnels if that is more: then an owner is given its
                                              own back */
  RAW_PORT_MIN = 1024,

  /* the relay's state, certificates and admin port */
  STATE_BUSY_MS = 5000,                    /* how long another process may hold the state before we give up */
  STATE_SPELL_MS = 1000,                   /* a relay that has been writing for so long without a pause leaves the state
                                              to others ... */
  STATE_LEAVE_MS = 120,                    /* for so long: who waits for it (`adit token revoke`) looks every 100 ms at
                                              least */
  REQUESTS_PER_COMMIT_MAX = 64,            /* so many raw ports are given, as many taken back, and so many narrowed
                                              tokens revoked, in one write to the state */
  STATE_CLAIM_MS = 3000,                   /* how long a relay waits for one that drains to leave it the state folder,
                                              and its admin port */
  STATE_LOCK_RETRY_MS = 10,
  NOTIFY_MS = 1000,                        /* so long systemd may take to hear a word */
  UPGRADE_READY_MS = 5000,                 /* from the start of a new program until it must be ready, or is ended */
  UPGRADE_STEP_MS = 5000,                  /* so long one side waits for the other in the midst of something */
  UPGRADE_LOOK_MS = 50,                    /* between looks whether the relay drains meanwhile */
  UPGRADE_ASK_MS = 30000,                  /* so long `adit relay upgrade` waits for an answer */
  UPGRADE_LAST_MS = 20000,                 /* so long who is not through yet is waited for, when all others are */
  UPGRADE_EVERY_MS = 5,                    /* and looked for */
  STRAYS_MAX = 256,                        /* data connections at a worker that wait to follow their links */
  PARCEL_MAX_BYTES = (4 << 20) + 4096,     /* what moves at a time: a link with a thousand tunnels, a stream */
  PARCELS_PER_BATCH_MAX = 32,              /* of streams that stand still at the same time */
  STARTER_GRACE_MS = 200,                  /* for a program to end that is not wanted any more */
  STARTER_LOOK_MS = 5,
  STARTER_ARGUMENTS_MAX_BYTES = 65536,     /* with longer ones a relay cannot be started anew */
  STARTER_ARGUMENTS_MAX = 1024,
  STARTER_PATH_MAX_BYTES = 4095,
  STATE_FILE_MAX_BYTES = 65536,
  CERT_FILE_MAX_BYTES = 262144,
  CERT_LIFE_DAYS = 397,
  CERT_RETRY_S = 300,                      /* between attempts to renew our own certificate, or to read files that
                                              failed */
  CERTS_EXACT_MAX = 1024,                  /* certificates for one name: beyond it the least used is made anew when
                                              needed */
  CERTS_EXACT_PER_OWNER_MAX = 256,         /* so many are made, in milliseconds each, for the tunnels of one token in
                                              ... */
  CERTS_EXACT_PERIOD_MS = 10000,
  USAGES_KEPT_MAX = 1024,                  /* tokens that nobody uses now, of which the relay still tells what has
                                              passed */
  NARROWED_KEPT_PER_TOKEN_MAX = 1024,      /* the same of those that were narrowed from one of them, ... */
  NARROWED_KEPT_PER_NARROWED_MAX = 64,     /* from one that was itself narrowed, as a container's is, ... */
  NARROWED_KEPT_MAX = 8192,                /* and from all together */
  REGISTRY_STEPS_MAX = 64,                 /* under the lock that every visitor takes; then it is free for others */
  ADMIN_BACKLOG = 16,
  ADMIN_HEADERS_MAX_BYTES = 8192,
  ADMIN_BODY_MAX_BYTES = 1024,
  ADMIN_TIMEOUT_S = 5,
  ADMIN_ACCEPTS_PER_S = 64,                /* with the timeout this bounds the admin port's descriptors */
  ADMIN_PAUSE_MS = 1000,
  ADMIN_LEAVE_MS = 100,                    /* for answers that are on their way when another process takes its place */

  /* command line */
  CONFIG_FILE_MAX_BYTES = 65536,           /* of a command's options, and of the user */
  STATUS_MAX_BYTES = 16 << 20,             /* the answer of /status: some 60,000 tunnels */
  STATUS_DEADLINE_MS = 5000,
  LOGIN_DEADLINE_MS = 15000,
  FORWARD_START_MS = 30000,                /* `adit forward` gives up when nothing is open by then */
  FORWARD_DRAIN_MS = 1000,                 /* at the end of `adit forward`: what was accepted may still be delivered */
  WORDS_WAITING_MAX_BYTES = 1 << 20,       /* of words that are not taken where they go; twice as much in all */
  WORDS_END_MS = 1000,                     /* so long a command waits at its end for them to be taken */
  LIVE_WAITING_MAX_BYTES = 4096,           /* the live line is not drawn anew behind more than that */
  RELAY_WORKERS_MAX = 256
};

#endif
