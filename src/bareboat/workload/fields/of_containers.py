"""The field table's rows for containers: Container and what hangs on it except volume mounts."""

from bareboat.workload.fields import finders, of_pods, rows

_NOBODY_ATTACHES = rows.Rule(
    "spec.containers[*].stdin",
    "nobody can attach to it",
    False,
    finders.each("stdin", lambda one: one.stdin),
    rows.PLAIN,
)
_NO_TERMINAL = rows.Rule(
    "spec.containers[*].tty", "there is no terminal", False, finders.each("tty", lambda one: one.tty), rows.PLAIN
)
_IMAGE = rows.Rule(
    "spec.containers[*].image other than spec.containers[0].image",
    "it is '{value}'; a rented machine has one image, that of spec.containers[0]; use the same one, or give this "
    "container a pod of its own",
    True,
    finders.other_images,
    rows.SSH,
)
_WORKING_DIR = rows.Rule(
    "spec.containers[*].workingDir",
    "'{value}' is left out: the process starts in the image's own folder unless the pod has a command and "
    "reports its exit code",
    False,
    finders.working_dir,
    rows.PLAIN,
)
_RESTART = rows.Rule(
    "spec.containers[*].restartPolicy",
    "'{value}' is left out: the pod's restartPolicy counts",
    False,
    finders.each("restartPolicy", lambda one: one.restart_policy),
    rows.PLAIN,
)
_RESTART_RULES = rows.Rule(
    "spec.containers[*].restartPolicyRules",
    "rules by exit code are left out: the restartPolicy counts",
    False,
    finders.each("restartPolicyRules", lambda one: len(one.restart_policy_rules)),
)
_NEVER_PULLED = rows.Rule(
    "spec.containers[*].imagePullPolicy Never",
    "the image is pulled all the same: no rented machine has it",
    False,
    finders.each("imagePullPolicy", lambda one: one.image_pull_policy == "Never" and one.image_pull_policy),
)
_DEVICES = rows.Rule(
    "spec.containers[*].volumeDevices",
    "block devices of the cluster can't be reached from a rented machine; use storage on the network",
    True,
    finders.each("volumeDevices", lambda one: ", ".join(str(each.get("devicePath")) for each in one.volume_devices)),
)
_CLAIMS = rows.Rule(
    "spec.containers[*].resources.claims",
    "devices of the cluster can't be reached from a rented machine; ask for nvidia.com/gpu instead",
    True,
    finders.each("resources.claims", lambda one: ", ".join(str(each.get("name")) for each in one.resources.claims)),
)
_LIVENESS = rows.Rule(
    "spec.containers[*].livenessProbe",
    "not performed: a rented container can't be restarted in place; the process should exit when it is broken",
    False,
    finders.each("livenessProbe", lambda one: "set" if one.liveness_probe is not None else ""),
    rows.PLAIN,
)
_HANDLERS = rows.Rule(
    "spec.containers[*].startupProbe, readinessProbe with exec or grpc",
    "not performed: only httpGet and tcpSocket reach a rented container; it counts as {value} once it runs",
    False,
    finders.probe_handlers,
    rows.PLAIN,
)
_PROBE_HOST = rows.Rule(
    "spec.containers[*].startupProbe, readinessProbe .httpGet.host, .tcpSocket.host",
    "'{value}' is left out: the probe goes to the rented machine's public address",
    False,
    finders.probe_hosts,
    rows.PLAIN,
)
_PORT_NAME = "it is '{value}'; allowed is a number from 1 to 65535 or the name of one of the container's ports; "
_PROBE_PORT_PLAIN = rows.Rule(
    "spec.containers[*].startupProbe, readinessProbe .httpGet.port, .tcpSocket.port",
    f"{_PORT_NAME}the pod never gets ready",
    False,
    finders.probe_ports("httpGet", "tcpSocket"),
    rows.PLAIN,
)
_PROBE_PORT_SSH = rows.Rule(
    "spec.containers[*] probes .httpGet.port, .tcpSocket.port, .grpc.port",
    f"{_PORT_NAME}the probe fails",
    False,
    finders.probe_ports("httpGet", "tcpSocket", "grpc", liveness=True),
    rows.SSH,
)
_LIFECYCLE = rows.Rule(
    "spec.containers[*].lifecycle",
    "{value} is not performed: nothing reaches into a rented container in plain access",
    False,
    finders.each("lifecycle", lambda one: ", ".join(sorted(one.lifecycle or {}))),
    rows.PLAIN,
)
_HOST_PORT = rows.Rule(
    "spec.containers[*].ports[*].hostPort",
    "{value} is left out: the cloud chooses the public port (see the annotation bareboat.dev/ports)",
    False,
    finders.ports("hostPort", lambda port: port.host_port),
)
_PROTOCOL = rows.Rule(
    "spec.containers[*].ports[*].protocol SCTP",
    "{value} can't be mapped to a public port; allowed are TCP and UDP",
    False,
    finders.ports("protocol", lambda port: port.protocol if port.protocol not in ("", "TCP", "UDP") else ""),
)
_POD_ADDRESS = rows.Rule(
    "spec.containers[*].env[*].valueFrom.fieldRef of status.podIP, status.podIPs",
    "{value}: a rented container has no address in the cluster's network",
    True,
    finders.env_source(finders.pod_address),
    unless_addressed=True,
)
_FILE_KEY = rows.Rule(
    "spec.containers[*].env[*].valueFrom.fileKeyRef",
    "{value}: environment is fixed before any container of the pod could write the file; use a ConfigMap or a Secret",
    True,
    finders.env_source(finders.file_key),
)
_PRIVILEGED = rows.Rule(
    "securityContext.privileged",
    "clouds rent unprivileged containers only",
    True,
    finders.security("privileged", bool, pod=False),
)
_CAPABILITIES = rows.Rule(
    "securityContext.capabilities.add",
    "clouds give no further capabilities (asked: {value}); a container has "
    + ", ".join(sorted(finders.DEFAULT_CAPABILITIES)),
    True,
    finders.security("capabilities.add", finders.beyond_default, pod=False),
)

_MACHINE_LIMITS = "the machine is chosen by them"
_MESSAGE = rows.left_out("nothing reads files of a rented container in plain access")

CONTAINER: tuple[rows.Row, ...] = (
    rows.row("Container", "name", rows.HONOURED),
    rows.row("Container", "image", rows.HONOURED, rows.honoured("the same for all containers"), _IMAGE),
    rows.row("Container", "imagePullPolicy", rows.left_out("each machine that is rented pulls"), None, _NEVER_PULLED),
    rows.row("Container", "command", rows.HONOURED),
    rows.row("Container", "args", rows.HONOURED),
    rows.row("Container", "workingDir", rows.emulated("by the wrapper that reports the exit code"), rows.HONOURED,
             _WORKING_DIR),
    rows.row("Container", "env", rows.HONOURED),
    rows.row("Container", "envFrom", rows.HONOURED),
    rows.row("Container", "ports", rows.honoured("mapped to public ports that the cloud chooses")),
    rows.row("Container", "resources", rows.honoured("see ResourceRequirements")),
    rows.row("Container", "resizePolicy", rows.left_out("a rented machine's resources stay as they are")),
    rows.row("Container", "restartPolicy", rows.HONOURED, None, _RESTART),
    rows.row("Container", "restartPolicyRules", rows.HONOURED, None, _RESTART_RULES),
    rows.row("Container", "volumeMounts", rows.honoured("see VolumeMount")),
    rows.row("Container", "volumeDevices", rows.HONOURED, None, _DEVICES),
    rows.row("Container", "livenessProbe", rows.HONOURED, None, _LIVENESS),
    rows.row("Container", "readinessProbe", rows.emulated("from outside, at the public port"), rows.HONOURED),
    rows.row("Container", "startupProbe",
             rows.emulated("from outside, at the public port; a failure is reported, nothing is restarted"),
             rows.HONOURED),
    rows.row("Container", "lifecycle", rows.HONOURED, None, _LIFECYCLE),
    rows.row("Container", "terminationMessagePath", _MESSAGE, rows.HONOURED),
    rows.row("Container", "terminationMessagePolicy",
             rows.emulated("FallbackToLogsOnError, where the cloud has logs"), rows.HONOURED),
    rows.row("Container", "securityContext", rows.honoured("see SecurityContext")),
    rows.row("Container", "stdin", rows.HONOURED, None, _NOBODY_ATTACHES),
    rows.row("Container", "stdinOnce", rows.left_out("see stdin"), rows.HONOURED),
    rows.row("Container", "tty", rows.HONOURED, None, _NO_TERMINAL),
)  # fmt: skip

EPHEMERAL: tuple[rows.Row, ...] = rows.all_of(
    "EphemeralContainer",
    " ".join([*(each.field for each in CONTAINER), "targetContainerName"]),
    rows.rejected("see PodSpec.ephemeralContainers"),
    rows.left_out("see PodSpec.ephemeralContainers"),
)

ENVIRONMENT: tuple[rows.Row, ...] = (
    *rows.all_of("EnvVar", "name value valueFrom", rows.HONOURED),
    *rows.all_of("EnvVarSource", "configMapKeyRef secretKeyRef resourceFieldRef", rows.HONOURED),
    rows.row("EnvVarSource", "fieldRef", rows.HONOURED, None, _POD_ADDRESS),
    rows.row("EnvVarSource", "fileKeyRef", rows.HONOURED, None, _FILE_KEY),
    *rows.all_of("ConfigMapKeySelector", "key name optional", rows.HONOURED),
    *rows.all_of("SecretKeySelector", "key name optional", rows.HONOURED),
    *rows.all_of("FileKeySelector", "key optional path volumeName", rows.rejected("see EnvVarSource.fileKeyRef")),
    *rows.all_of("ObjectFieldSelector", "apiVersion fieldPath", rows.HONOURED),
    *rows.all_of("ResourceFieldSelector", "containerName divisor resource", rows.HONOURED),
    *rows.all_of("EnvFromSource", "configMapRef prefix secretRef", rows.HONOURED),
    *rows.all_of("ConfigMapEnvSource", "name optional", rows.HONOURED),
    *rows.all_of("SecretEnvSource", "name optional", rows.HONOURED),
)

_NOT_PERFORMED = rows.left_out("not performed")
_GRACE = rows.left_out("nothing is restarted")
PROBES: tuple[rows.Row, ...] = (
    rows.row("Probe", "exec", rows.HONOURED, None, _HANDLERS),
    rows.row("Probe", "grpc", _NOT_PERFORMED, rows.HONOURED),
    rows.row("Probe", "httpGet", rows.HONOURED, None, _PROBE_PORT_PLAIN, _PROBE_PORT_SSH),
    rows.row("Probe", "tcpSocket", rows.HONOURED),
    *rows.all_of(
        "Probe", "failureThreshold initialDelaySeconds periodSeconds successThreshold timeoutSeconds", rows.HONOURED
    ),
    rows.row("Probe", "terminationGracePeriodSeconds", _GRACE, rows.HONOURED),
    *rows.all_of("ExecAction", "command", _NOT_PERFORMED, rows.HONOURED),
    *rows.all_of("GRPCAction", "port service", _NOT_PERFORMED, rows.HONOURED),
    rows.row("HTTPGetAction", "host", rows.HONOURED, None, _PROBE_HOST),
    *rows.all_of("HTTPGetAction", "httpHeaders path port scheme", rows.HONOURED),
    *rows.all_of("HTTPHeader", "name value", rows.HONOURED),
    *rows.all_of("TCPSocketAction", "host port", rows.honoured("`host` as in HTTPGetAction"), rows.HONOURED),
    *rows.all_of("Lifecycle", "postStart preStop stopSignal", _NOT_PERFORMED, rows.HONOURED),
    *rows.all_of("LifecycleHandler", "exec httpGet sleep tcpSocket", _NOT_PERFORMED, rows.HONOURED),
    *rows.all_of("SleepAction", "seconds", _NOT_PERFORMED, rows.HONOURED),
)

PORTS: tuple[rows.Row, ...] = (
    *rows.all_of("ContainerPort", "containerPort name", rows.HONOURED),
    rows.row("ContainerPort", "hostPort", rows.HONOURED, None, _HOST_PORT),
    rows.row("ContainerPort", "hostIP", rows.left_out("see hostPort")),
    rows.row("ContainerPort", "protocol", rows.HONOURED, None, _PROTOCOL),
)

RESOURCES: tuple[rows.Row, ...] = (
    rows.row("ResourceRequirements", "requests", rows.honoured(_MACHINE_LIMITS)),
    rows.row("ResourceRequirements", "limits", rows.honoured(f"GPUs; {_MACHINE_LIMITS}"),
             rows.emulated("GPUs; more memory than its limit ends a container as OOMKilled; CPU isn't limited")),
    rows.row("ResourceRequirements", "claims", rows.HONOURED, None, _CLAIMS),
    *rows.all_of("ResourceClaim", "name request", rows.rejected("see ResourceRequirements.claims")),
    *rows.all_of("ContainerResizePolicy", "resourceName restartPolicy", rows.left_out("see Container.resizePolicy")),
    *rows.all_of("ContainerRestartRule", "action exitCodes", rows.left_out("see Container.restartPolicyRules")),
    *rows.all_of(
        "ContainerRestartRuleOnExitCodes", "operator values", rows.left_out("see Container.restartPolicyRules")
    ),
)  # fmt: skip

_CONTEXT = "SecurityContext"
_PRIVILEGES = rows.honoured("with the kernel's no_new_privs")
SECURITY: tuple[rows.Row, ...] = (
    *(
        rows.row(_CONTEXT, field, rows.HONOURED, None, of_pods.not_enforced(_CONTEXT, field))
        for field in ("runAsUser", "runAsGroup", "runAsNonRoot")
    ),
    rows.row(_CONTEXT, "allowPrivilegeEscalation", rows.HONOURED, _PRIVILEGES,
             of_pods.not_enforced(_CONTEXT, "allowPrivilegeEscalation")),
    rows.row(_CONTEXT, "readOnlyRootFilesystem", rows.HONOURED,
             rows.emulated("where the machine lets the runner mount; else left out, with an Event that says so"),
             of_pods.not_enforced(_CONTEXT, "readOnlyRootFilesystem")),
    rows.row(_CONTEXT, "privileged", rows.HONOURED, None, _PRIVILEGED),
    rows.row(_CONTEXT, "capabilities", rows.honoured("see Capabilities")),
    rows.row("Capabilities", "add", rows.honoured("those that a container has by default"), None, _CAPABILITIES),
    rows.row("Capabilities", "drop", rows.HONOURED, None, of_pods.not_enforced(_CONTEXT, "capabilities.drop")),
    rows.row(_CONTEXT, "seccompProfile", rows.HONOURED, of_pods.SECCOMP,
             of_pods.not_enforced(_CONTEXT, "seccompProfile.type"), of_pods.local_seccomp(_CONTEXT)),
    rows.row(_CONTEXT, "appArmorProfile", rows.HONOURED, None, of_pods.by_host(_CONTEXT, "appArmorProfile.type")),
    rows.row(_CONTEXT, "seLinuxOptions", rows.HONOURED, None, of_pods.by_host(_CONTEXT, "seLinuxOptions")),
    rows.row(_CONTEXT, "procMount", rows.HONOURED, None, of_pods.by_host(_CONTEXT, "procMount")),
    rows.row(_CONTEXT, "windowsOptions", rows.left_out("rented machines run linux")),
    *rows.all_of("AppArmorProfile", "localhostProfile type", rows.left_out("see SecurityContext.appArmorProfile")),
    *rows.all_of("SELinuxOptions", "level role type user", rows.left_out("see SecurityContext.seLinuxOptions")),
    *rows.all_of("SeccompProfile", "localhostProfile", rows.left_out("see SecurityContext.seccompProfile")),
    *rows.all_of("SeccompProfile", "type", rows.left_out("see SecurityContext.seccompProfile"), of_pods.SECCOMP),
    *rows.all_of(
        "WindowsSecurityContextOptions",
        "gmsaCredentialSpec gmsaCredentialSpecName hostProcess runAsUserName",
        rows.left_out("rented machines run linux"),
    ),
)  # fmt: skip
