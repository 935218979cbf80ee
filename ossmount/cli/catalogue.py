"""Every command with its texts: what ``ossmount --help`` and docs/cli.md show.

What may live here: words for people, and which function runs. Who may touch it: whoever adds a command.
Examples are parsed by a test with the real parser.
"""

from __future__ import annotations

from ossmount.cli import commands, completion, generation_commands, index_commands, k8s_commands
from ossmount.cli.command import Command
from ossmount.cli.view_commands import VIEW_COMMANDS

COMMANDS: tuple[Command, ...] = (
    Command(
        ("mount",),
        "present a prefix, a manifest or a list of objects as a read-only directory",
        "Returns 0 when the mount serves; otherwise says in one line what is wrong. 'ossmount SOURCE\n"
        "MOUNTPOINT -o ...' means the same, for mount(8) and fstab. The source is listed once; the index\n"
        "is kept below the cache directory and used again (--rebuild makes it anew).",
        (
            ("a prefix of a bucket", "ossmount mount s3://bucket/train/ /mnt/train"),
            (
                "labels from a manifest, one directory per label, as ImageFolder wants it",
                "ossmount mount --manifest labels.tsv --base-uri oss://bucket/img/ --layout labels"
                " /mnt/train",
            ),
            (
                "a store of your own that speaks S3",
                "ossmount mount --endpoint-url http://127.0.0.1:9000 --addressing-style path"
                " s3://bucket/train/ /mnt/train",
            ),
            (
                "a larger cache on a local disk",
                "ossmount mount --cache-dir /nvme/ossmount --cache-size 500G oss://bucket/train/ /mnt/train",
            ),
            ("objects listed by another program", "ossmount mount --objects - /mnt/train < uris.txt"),
            (
                "an index, split for training and validation",
                "ossmount mount --split train=0.9,val=0.1 --seed 7 train.ossidx /mnt/train",
            ),
            (
                "a line of /etc/fstab",
                "s3://bucket/train/ /mnt/train fuse.ossmount ro,_netdev,allow_other,cache-size=50G 0 0",
            ),
        ),
        commands.mount,
        commands.mount_arguments,
        sections=("store", "source", "index", "view", "cache", "readahead", "mount", "observability"),
        usage="SOURCE... MOUNTPOINT [-o OPTIONS]",
    ),
    Command(
        ("umount",),
        "end a mount",
        "Waits until the processes of the mount have ended. A mount whose processes are gone ('Transport\n"
        "endpoint is not connected') is cleaned away with --lazy.",
        (
            ("the usual way", "ossmount umount /mnt/train"),
            ("although it is in use or dead", "ossmount umount --lazy /mnt/train"),
        ),
        commands.umount,
        commands.umount_arguments,
        usage="[--lazy] MOUNTPOINT",
    ),
    Command(
        ("list",),
        "list the live mounts of this user",
        "",
        (("for a script", "ossmount list --json"),),
        commands.list_mounts,
        commands.json_flag,
        usage="[--json]",
    ),
    Command(
        ("stats",),
        "show the counters of a mount",
        "Counters only grow; their difference between two moments is what happened between them. What\n"
        "has happened in the last half second may be missing. --watch shows rates, hits by layer, latencies\n"
        "of the store and what is being fetched, once a second.",
        (
            ("requests and cache hits so far", "ossmount stats /mnt/train"),
            ("what happens just now", "ossmount stats --watch /mnt/train"),
        ),
        commands.stats,
        commands.stats_arguments,
        usage="[--json | --watch] MOUNTPOINT",
    ),
    Command(
        ("warm",),
        "fetch files of a mount into its disk cache",
        "Returns when everything is there. What is cached is skipped, so it may be interrupted (Ctrl-C)\n"
        "and run again. PATHs are files or directories, relative to the mountpoint or below it; without\n"
        "them all is fetched. What programs read at the same time comes first.",
        (
            ("the whole data set", "ossmount warm /mnt/train"),
            ("two classes", "ossmount warm /mnt/train cat dog"),
            ("what one label has, at most 100 GiB", "ossmount warm --label cat --bytes 100G /mnt/train"),
        ),
        commands.warm,
        commands.warm_arguments,
        usage="[--label LABEL] [--bytes SIZE] [--json] MOUNTPOINT [PATH...]",
    ),
    Command(
        ("refresh",),
        "bring a live mount up to date with its source",
        "Builds the next generation and goes over to it in one step, without unmounting. What did not\n"
        "change stays cached, readers notice nothing. SIGHUP to the mount's process does the same.",
        (("after objects were added", "ossmount refresh /mnt/train"),),
        generation_commands.refresh,
        generation_commands.refresh_arguments,
        usage="[--json] MOUNTPOINT",
    ),
    Command(
        ("verify",),
        "compare an index, or a mount, with its source",
        "Lists the source again and shows every file whose size or ETag is another one, that is missing, or\n"
        "that is new; nothing is changed. Exit status 0: no difference, 1: differences.",
        (
            ("is the index still right?", "ossmount verify train.ossidx"),
            ("and are the objects what their ETags say?", "ossmount verify --contents /mnt/train"),
        ),
        generation_commands.verify,
        generation_commands.verify_arguments,
        sections=("store",),
        usage="[--contents] [--json] INDEX|MOUNTPOINT",
    ),
    Command(
        ("index", "build"),
        "make the index of a source",
        "Lists the source once and writes an immutable index beside INDEX, then renames it. A mount with\n"
        "--index makes no listing at all.",
        (
            ("an index to keep", "ossmount index build s3://bucket/train/ train.ossidx"),
            ("mount it", "ossmount mount --index train.ossidx /mnt/train"),
        ),
        index_commands.index_build,
        index_commands.index_build_arguments,
        sections=("store", "source", "index", "view"),
        omit=("index", "rebuild"),
        usage="SOURCE... INDEX",
    ),
    Command(
        ("index", "refresh"),
        "bring an index up to date with its source",
        "Reads the source again and writes the next generation in the place of the index, in one step. What\n"
        "did not change keeps its inode number. The index itself says what it was made from. Mounts of the\n"
        "index go on with the old generation until 'ossmount refresh MOUNTPOINT'.",
        (
            ("what changed since it was made", "ossmount index refresh train.ossidx"),
            ("every change in a file", "ossmount index refresh --report changes.tsv train.ossidx"),
        ),
        generation_commands.index_refresh,
        generation_commands.index_refresh_arguments,
        sections=("store",),
        usage="[--report FILE] [--json] INDEX",
    ),
    Command(
        ("index", "push"),
        "publish an index in a store",
        "Compressed, in parts that are named by their content: a push that broke off goes on, and the next\n"
        "generation sends only what is new. Other hosts mount the URI without any listing.",
        (
            ("for all hosts", "ossmount index push train.ossidx s3://bucket/train.ossidx"),
            ("on each of them", "ossmount mount s3://bucket/train.ossidx /mnt/train"),
            ("each night", "ossmount index push --prune train.ossidx s3://bucket/train.ossidx"),
        ),
        generation_commands.index_push,
        generation_commands.index_push_arguments,
        sections=("store",),
        usage="[--prune] [--json] INDEX URI",
    ),
    Command(
        ("index", "pull"),
        "fetch an index that was published",
        "Checked by its checksums; INDEX is complete or as it was. A pull that broke off goes on.",
        (("to keep it", "ossmount index pull s3://bucket/train.ossidx train.ossidx"),),
        generation_commands.index_pull,
        generation_commands.index_pull_arguments,
        sections=("store", "cache"),
        usage="[--json] URI INDEX",
    ),
    Command(
        ("index", "info"),
        "show what an index says of itself",
        "",
        (("where it came from, and how much it holds", "ossmount index info train.ossidx"),),
        index_commands.index_info,
        index_commands.index_and_json,
        usage="[--json] INDEX",
    ),
    Command(
        ("index", "ls"),
        "list a directory of an index without mounting it",
        "",
        (
            ("the first level", "ossmount index ls train.ossidx"),
            ("a class", "ossmount index ls -l train.ossidx cat"),
        ),
        index_commands.index_ls,
        index_commands.index_ls_arguments,
        usage="[-l] [--json] INDEX [DIRECTORY]",
    ),
    Command(
        ("index", "export"),
        "write an index out as a manifest",
        "The manifest has a header and sizes and ETags: mounting it makes no request.",
        (("to a file", "ossmount index export train.ossidx train.tsv"),),
        index_commands.index_export,
        index_commands.index_export_arguments,
        usage="INDEX [FILE]",
    ),
    Command(
        ("index", "report"),
        "list what was renamed, merged or skipped when an index was made",
        "Nothing is hidden in silence: keys that cannot be file names are escaped and listed here.",
        (("as a table of tab-separated values", "ossmount index report train.ossidx"),),
        index_commands.index_report,
        index_commands.index_and_json,
        usage="[--json] INDEX",
    ),
    *VIEW_COMMANDS,
    Command(
        ("doctor",),
        "check this machine, and a source if one is given, and say what to do",
        "Exit status 0 when nothing failed, 1 otherwise. Secrets are never shown.",
        (
            ("the machine", "ossmount doctor"),
            ("credentials, clock, endpoint and permissions", "ossmount doctor oss://bucket/train/"),
        ),
        commands.doctor,
        commands.doctor_arguments,
        sections=("store", "cache", "mount"),
        usage="[--json] [SOURCE]",
    ),
    Command(
        ("completion",),
        "write the script that makes a shell complete these commands",
        "",
        (
            ("for ~/.bashrc: source <(ossmount completion bash)", "ossmount completion bash"),
            ("for ~/.zshrc, after compinit: source <(ossmount completion zsh)", "ossmount completion zsh"),
            ("for ~/.config/fish/completions/ossmount.fish", "ossmount completion fish"),
        ),
        lambda context, arguments: completion.completion(COMMANDS, context, arguments),
        completion.completion_arguments,
        usage="SHELL",
    ),
    Command(
        ("csi",),
        "run the CSI driver of a Kubernetes node",
        "Identity and Node services of CSI 1.12 on a unix socket, for kubelet; see docs/kubernetes.md. Ends\n"
        "at SIGTERM; what stays mounted is found again at the next start.",
        (
            (
                "in the container of the node plugin",
                "ossmount csi --endpoint unix:///csi/csi.sock --node-id node-1 --index-dir /indexes",
            ),
        ),
        k8s_commands.csi,
        k8s_commands.csi_arguments,
        usage="--endpoint URL --node-id NAME [OPTIONS]",
    ),
    Command(
        ("sidecar",),
        "serve the volumes of a Pod without any privilege",
        "The node plugin mounts and hands the descriptors over; this serves them. Ends at SIGTERM.",
        (
            ("in the sidecar container", "ossmount sidecar"),
            ("its startup probe", "ossmount sidecar --check"),
        ),
        k8s_commands.sidecar,
        k8s_commands.sidecar_arguments,
        usage="[--directory DIR] [--plugin-uid UID] [--check]",
    ),
)
