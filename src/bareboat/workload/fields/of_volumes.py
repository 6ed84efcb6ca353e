"""The field table's rows for volumes and their mounts."""

from bareboat.workload.fields import finders, rows

FILES = frozenset({"configMap", "secret", "projected", "downwardAPI"})
STORAGE = frozenset({"persistentVolumeClaim", "hostPath", "csi", "ephemeral", "nfs", "image", "gitRepo", "unknown"})

_FILES_PLAIN = rows.Rule(
    "spec.containers[*].volumeMounts[*] of configMap, secret, projected, downwardAPI",
    "files can't be put into a rented container in plain access ({value}); pass the values as environment",
    True,
    finders.mounts(FILES),
    rows.PLAIN,
)
_STORAGE_PLAIN = rows.Rule(
    "spec.containers[*].volumeMounts[*] of any other volume except emptyDir",
    "storage of the cluster can't be reached from a rented machine ({value}); use storage on the network",
    True,
    finders.mounts(STORAGE),
    rows.PLAIN,
)
_EMPTY_DIR_PLAIN = rows.Rule(
    "spec.containers[*].volumeMounts[*] of emptyDir",
    "nothing is mounted ({value}): the folder is on the container's own disk, and exists only if the image has it",
    False,
    finders.mounts(frozenset({"emptyDir"})),
    rows.PLAIN,
)


def _refused(kinds: str, why: str) -> rows.Rule:
    named = frozenset(kinds.split())
    where = ", ".join(sorted(named))
    return rows.Rule(f"spec.volumes[*] of {where}", why, True, finders.mounted(named), rows.SSH)


_CLAIM = _refused(
    "persistentVolumeClaim ephemeral csi nfs unknown",
    "storage of the cluster can't be reached from a rented machine ({value}); use emptyDir for scratch space, and "
    "storage on the network (an object store) for what has to stay",
)
_HOST_PATH = _refused(
    "hostPath",
    "the host of a rented container belongs to somebody else ({value}); use emptyDir for scratch space, configMap or "
    "secret for files",
)
_IMAGE = _refused(
    "image", "a rented machine has one image, that of the pod's containers ({value}); put the files into that one"
)
_GIT = _refused("gitRepo", "not fetched ({value}); clone in an init container into an emptyDir")
_PROJECTED = rows.Rule(
    "spec.volumes[*].projected.sources[*].clusterTrustBundle, podCertificate",
    "{value}: only configMap, secret, downwardAPI and serviceAccountToken can be projected here; put certificates into "
    "a ConfigMap or a Secret",
    True,
    finders.projected("clusterTrustBundle", "podCertificate"),
    rows.SSH,
)
_MEDIUM = rows.Rule(
    "spec.volumes[*].emptyDir.medium",
    "it is '{value}'; allowed is Memory, or leave it out: no huge pages can be had on a rented machine",
    True,
    finders.medium,
)
_PROPAGATION = rows.Rule(
    "spec.containers[*].volumeMounts[*].mountPropagation",
    "'{value}' is left out: nothing is mounted between a rented container and its host",
    False,
    finders.mount_option(
        "mountPropagation", lambda mount: mount.mount_propagation if mount.mount_propagation not in ("", "None") else ""
    ),
)
_RECURSIVE = rows.Rule(
    "spec.containers[*].volumeMounts[*].recursiveReadOnly",
    "'{value}' is left out: volumes here have no mounts inside them",
    False,
    finders.mount_option(
        "recursiveReadOnly", lambda mount: mount.recursive_read_only if mount.recursive_read_only == "Enabled" else ""
    ),
)

_NO_STORAGE = rows.rejected("storage of the cluster can't be reached from a rented machine; use storage on the network")

VOLUME: tuple[rows.Row, ...] = (
    rows.row("Volume", "name", rows.HONOURED),
    rows.row("Volume", "configMap", rows.HONOURED, rows.honoured("files, brought up to date while the pod runs"),
             _FILES_PLAIN),
    *rows.all_of("Volume", "secret projected downwardAPI", rows.rejected("as `configMap`"),
                 rows.honoured("as `configMap`")),
    rows.row("Volume", "emptyDir", rows.HONOURED, None, _EMPTY_DIR_PLAIN),
    rows.row("Volume", "persistentVolumeClaim", _NO_STORAGE, None, _STORAGE_PLAIN, _CLAIM),
    rows.row("Volume", "hostPath", _NO_STORAGE, None, _HOST_PATH),
    rows.row("Volume", "image", _NO_STORAGE, None, _IMAGE),
    rows.row("Volume", "gitRepo", _NO_STORAGE, None, _GIT),
    *rows.all_of(
        "Volume",
        "awsElasticBlockStore azureDisk azureFile cephfs cinder csi ephemeral fc flexVolume flocker gcePersistentDisk "
        "glusterfs iscsi nfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume",
        _NO_STORAGE,
    ),
)  # fmt: skip

MOUNT: tuple[rows.Row, ...] = (
    *rows.all_of("VolumeMount", "name mountPath", rows.left_out("see Volume"), rows.HONOURED),
    rows.row("VolumeMount", "subPath", rows.left_out("see Volume"), rows.honoured("and then not brought up to date")),
    rows.row("VolumeMount", "subPathExpr", rows.left_out("see Volume"), rows.honoured("as `subPath`")),
    rows.row("VolumeMount", "readOnly", rows.left_out("see Volume"),
             rows.emulated("where the machine lets the runner mount; else not enforced")),
    rows.row("VolumeMount", "mountPropagation", rows.HONOURED, None, _PROPAGATION),
    rows.row("VolumeMount", "recursiveReadOnly", rows.HONOURED, None, _RECURSIVE),
    *rows.all_of("VolumeDevice", "devicePath name", rows.rejected("see Container.volumeDevices")),
)  # fmt: skip

_FILES = rows.rejected("see Volume.configMap")
SOURCES: tuple[rows.Row, ...] = (
    *rows.all_of("ConfigMapVolumeSource", "defaultMode items name optional", _FILES, rows.HONOURED),
    *rows.all_of("SecretVolumeSource", "defaultMode items optional secretName", _FILES, rows.HONOURED),
    *rows.all_of("KeyToPath", "key mode path", _FILES, rows.HONOURED),
    *rows.all_of("DownwardAPIVolumeSource", "defaultMode items", _FILES, rows.HONOURED),
    *rows.all_of("DownwardAPIVolumeFile", "fieldRef mode path resourceFieldRef", _FILES, rows.HONOURED),
    *rows.all_of("ProjectedVolumeSource", "defaultMode sources", _FILES, rows.HONOURED),
    *rows.all_of("VolumeProjection", "configMap downwardAPI secret serviceAccountToken", _FILES, rows.HONOURED),
    rows.row("VolumeProjection", "clusterTrustBundle", _FILES, rows.HONOURED, _PROJECTED),
    *rows.all_of("VolumeProjection", "podCertificate", _FILES, rows.rejected("as `clusterTrustBundle`")),
    *rows.all_of("ConfigMapProjection", "items name optional", _FILES, rows.HONOURED),
    *rows.all_of("SecretProjection", "items name optional", _FILES, rows.HONOURED),
    *rows.all_of("DownwardAPIProjection", "items", _FILES, rows.HONOURED),
    *rows.all_of("ServiceAccountTokenProjection", "audience path", _FILES, rows.HONOURED),
    rows.row("ServiceAccountTokenProjection", "expirationSeconds", _FILES,
             rows.honoured("asked for anew after 80 % of it, after a day at the latest")),
    *rows.all_of(
        "ClusterTrustBundleProjection",
        "labelSelector name optional path signerName",
        rows.rejected("see VolumeProjection.clusterTrustBundle"),
    ),
    *rows.all_of(
        "PodCertificateProjection",
        "certificateChainPath credentialBundlePath keyPath keyType maxExpirationSeconds signerName userAnnotations",
        rows.rejected("see VolumeProjection.clusterTrustBundle"),
    ),
    rows.row("EmptyDirVolumeSource", "medium", rows.left_out("see Volume.emptyDir"),
             rows.emulated("Memory: in a file system of the machine's memory where it has one"), _MEDIUM),
    rows.row("EmptyDirVolumeSource", "sizeLimit", rows.left_out("see Volume.emptyDir"),
             rows.emulated("of a volume in memory; on disk the machine's own size is the limit")),
)  # fmt: skip

REJECTED: tuple[rows.Row, ...] = tuple(
    row
    for kind, fields in {
        "AWSElasticBlockStoreVolumeSource": "fsType partition readOnly volumeID",
        "AzureDiskVolumeSource": "cachingMode diskName diskURI fsType kind readOnly",
        "AzureFileVolumeSource": "readOnly secretName shareName",
        "CSIVolumeSource": "driver fsType nodePublishSecretRef readOnly volumeAttributes",
        "CephFSVolumeSource": "monitors path readOnly secretFile secretRef user",
        "CinderVolumeSource": "fsType readOnly secretRef volumeID",
        "EphemeralVolumeSource": "volumeClaimTemplate",
        "FCVolumeSource": "fsType lun readOnly targetWWNs wwids",
        "FlexVolumeSource": "driver fsType options readOnly secretRef",
        "FlockerVolumeSource": "datasetName datasetUUID",
        "GCEPersistentDiskVolumeSource": "fsType partition pdName readOnly",
        "GitRepoVolumeSource": "directory repository revision",
        "GlusterfsVolumeSource": "endpoints path readOnly",
        "HostPathVolumeSource": "path type",
        "ISCSIVolumeSource": "chapAuthDiscovery chapAuthSession fsType initiatorName iqn iscsiInterface lun portals "
        "readOnly secretRef targetPortal",
        "ImageVolumeSource": "pullPolicy reference",
        "NFSVolumeSource": "path readOnly server",
        "PersistentVolumeClaimSpec": "accessModes dataSource dataSourceRef resources selector storageClassName "
        "volumeAttributesClassName volumeMode volumeName",
        "PersistentVolumeClaimTemplate": "metadata spec",
        "PersistentVolumeClaimVolumeSource": "claimName readOnly",
        "PhotonPersistentDiskVolumeSource": "fsType pdID",
        "PortworxVolumeSource": "fsType readOnly volumeID",
        "QuobyteVolumeSource": "group readOnly registry tenant user volume",
        "RBDVolumeSource": "fsType image keyring monitors pool readOnly secretRef user",
        "ScaleIOVolumeSource": "fsType gateway protectionDomain readOnly secretRef sslEnabled storageMode storagePool "
        "system volumeName",
        "StorageOSVolumeSource": "fsType readOnly secretRef volumeName volumeNamespace",
        "TypedLocalObjectReference": "apiGroup kind name",
        "TypedObjectReference": "apiGroup kind name namespace",
        "VolumeResourceRequirements": "limits requests",
        "VsphereVirtualDiskVolumeSource": "fsType storagePolicyID storagePolicyName volumePath",
    }.items()
    for row in rows.all_of(kind, fields, rows.rejected("see Volume"))
)
