"""A small Hub on the loopback, for tests: what huggingface_hub, transformers and datasets ask to upload, list and download.

Who has the token TOKEN is the user "me" and may write below "me/". Files lie in one folder by the hash of what they hold; a commit is a
list of names. It knows no branches but `main`, no pull requests, and no xet: clients set HF_HUB_DISABLE_XET=1.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

USER, TOKEN = "me", "hf_of_the_loopback"
LARGE = (".safetensors", ".parquet", ".bin", ".pt", ".pth")  # what the Hub takes by git-lfs, whatever its size
EMPTY_COMMIT = "0" * 40


class HubServer:
    """`with HubServer(folder) as hub:` answers at `hub.url`.

    Attributes:
        repos: {("models" or "datasets", "me/name"): {"private": bool, "commits": [(id, title, {path: sha256})]}}.
        unknown: requests that it had no answer for.
    """

    def __init__(self, folder):
        self.folder, self.repos, self.unknown = Path(folder), {}, []
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def environment(self, home):
        """Environment variables of a client with a home of its own."""
        return {
            "HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        }  # fmt: skip

    def create(self, repo_id, kind="models", private=False):
        return self.repos.setdefault((kind, repo_id), {"private": private, "commits": [(EMPTY_COMMIT, "", {})]})

    def files(self, repo_id, kind="models"):
        """{path: bytes} of the newest commit."""
        return {path: self.blob(sha).read_bytes() for path, sha in self.repos[kind, repo_id]["commits"][-1][2].items()}

    def blob(self, sha):
        return self.folder / sha

    def store(self, content):
        sha = hashlib.sha256(content).hexdigest()
        self.blob(sha).write_bytes(content)
        return sha

    def commit(self, repo, title, changes):
        """`changes` is a function of the files {path: sha256} so far."""
        with self.lock:
            files = dict(repo["commits"][-1][2])
            changes(files)
            name = hashlib.sha1(json.dumps([len(repo["commits"]), files]).encode()).hexdigest()
            repo["commits"].append((name, title, files))
            return name


class _Refused(Exception):
    def __init__(self, status, message, code=None):
        self.status, self.message, self.code = status, message, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version, hub = "HTTP/1.1", None
    wbufsize, disable_nagle_algorithm = -1, True  # head and body in one packet: two of them wait for each other

    def log_message(self, *_):
        pass

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self._chunks()
        try:
            for methods, pattern, answer in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in methods:
                    return answer(self, **found.groupdict())
            self.hub.unknown.append(f"{self.command} {self.path}")
            raise _Refused(404, "No such page")
        except _Refused as refusal:
            headers = {"X-Error-Message": refusal.message} | ({"X-Error-Code": refusal.code} if refusal.code else {})
            self._json({"error": refusal.message}, refusal.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _chunks(self):
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, content, status=200, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value, status=200, headers=None):
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _user(self):
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given and given != TOKEN:
            raise _Refused(401, "Invalid credentials in Authorization header")
        return USER if given else None

    def _writer(self, repo_id):
        if self._user() is None:
            raise _Refused(401, "Invalid username or password.")
        if repo_id.split("/")[0] != USER:
            raise _Refused(403, f"You don't have the rights to write to {repo_id}")

    def _repo(self, kind, repo_id):
        repo = self.hub.repos.get((kind or "models", repo_id))
        if repo is None or (repo["private"] and self._user() is None):
            raise _Refused(404, "Repository not found", "RepoNotFound")
        return repo

    def _commit(self, repo, revision):
        for name, title, files in reversed(repo["commits"]):
            if revision in ("main", "refs/heads/main", None, name):
                return name, title, files
        raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    # --- Accounts and repositories

    def whoami(self):
        if self._user() is None:
            raise _Refused(401, "Invalid username or password.")
        self._json({"type": "user", "name": USER, "fullname": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create(self):
        given = json.loads(self.body)
        kind = given.get("type", "model") + "s"
        repo_id = f"{given.get('organization') or self._user()}/{given['name']}"
        self._writer(repo_id)
        exists = (kind, repo_id) in self.hub.repos
        self.hub.create(repo_id, kind, private=given.get("visibility") == "private" or bool(given.get("private")))
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}"
        self._json({"url": url, "name": repo_id}, 409 if exists else 200)

    def info(self, kind, repo_id, revision=None):
        repo = self._repo(kind, repo_id)
        name, _, files = self._commit(repo, revision)
        siblings = [{"rfilename": path, "size": self.hub.blob(sha).stat().st_size} for path, sha in files.items()]
        about = {"id": repo_id, "modelId": repo_id, "sha": name, "private": repo["private"], "tags": [], "siblings": siblings}
        self._json(about | {"lastModified": "2026-01-01T00:00:00.000Z", "gated": False, "disabled": False, "downloads": 0, "likes": 0})

    def refs(self, kind, repo_id):
        newest = self._repo(kind, repo_id)["commits"][-1][0]
        self._json({"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": newest}], "converts": [], "tags": []})

    def _entry(self, path, sha):
        size = self.hub.blob(sha).stat().st_size
        entry = {"type": "file", "path": path, "size": size, "oid": sha[:40]}
        return entry | ({"lfs": {"oid": sha, "size": size, "pointerSize": 134}} if path.endswith(LARGE) else {})

    def tree(self, kind, repo_id, revision, folder):
        _, _, files = self._commit(self._repo(kind, repo_id), revision)
        prefix = folder.strip("/") + "/" if folder else ""
        entries = [self._entry(path, sha) for path, sha in files.items() if path.startswith(prefix)]
        if prefix and not entries:
            raise _Refused(404, f"{folder} does not exist", "EntryNotFound")
        self._json(entries if "recursive=true" in self.path.lower() else _first_level(entries, prefix))

    def paths_info(self, kind, repo_id, revision):
        _, _, files = self._commit(self._repo(kind, repo_id), revision)
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = [
                unquote(pair[len("paths=") :].replace("+", " ")) for pair in self.body.decode().split("&") if pair.startswith("paths=")
            ]
        found = []
        for path in paths:
            if path in files:
                found.append(self._entry(path, files[path]))
            elif any(name.startswith(path.rstrip("/") + "/") for name in files):
                found.append({"type": "directory", "path": path, "oid": EMPTY_COMMIT})
        self._json(found)

    # --- Uploads

    def validate_yaml(self):
        content = json.loads(self.body)["content"]
        errors = [] if content.startswith("---\n") else [{"message": "empty or missing yaml metadata in repo card"}]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, kind, repo_id, revision):
        self._writer(repo_id)
        self._repo(kind, repo_id)
        files = json.loads(self.body)["files"]
        modes = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular", "shouldIgnore": False}
            for file in files
        ]
        self._json({"files": modes})

    def lfs_batch(self, kind, repo_id):
        self._writer(repo_id)
        objects = []
        for found in json.loads(self.body)["objects"]:
            action = {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{found['oid']}"}}}
            objects.append(found | ({} if self.hub.blob(found["oid"]).exists() else action))
        self._json({"transfer": "basic", "objects": objects})

    def lfs_put(self, sha):
        if hashlib.sha256(self.body).hexdigest() != sha:
            raise _Refused(400, "The content is not what its hash says")
        self.hub.store(self.body)
        self._json({})

    def commit(self, kind, repo_id, revision):
        self._writer(repo_id)
        repo = self._repo(kind, repo_id)
        lines = [json.loads(line) for line in self.body.splitlines()]
        title = next(line["value"]["summary"] for line in lines if line["key"] == "header")

        def changes(files):
            for line in lines:
                key, value = line["key"], line["value"]
                if key == "file":
                    files[value["path"]] = self.hub.store(base64.b64decode(value["content"]))
                elif key == "lfsFile":
                    files[value["path"]] = value["oid"]
                elif key in ("deletedFile", "deletedFolder"):
                    for path in [path for path in files if path == value["path"] or path.startswith(value["path"].rstrip("/") + "/")]:
                        del files[path]

        name = self.hub.commit(repo, title, changes)
        self._json({"success": True, "commitOid": name, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{name}", "hookOutput": ""})

    # --- Downloads

    def resolve(self, kind, repo_id, revision, path):
        name, _, files = self._commit(self._repo(kind, repo_id), revision)
        headers = {"X-Repo-Commit": name}
        if path not in files:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        content = self.hub.blob(files[path]).read_bytes()
        headers |= {"ETag": f'"{files[path]}"', "X-Linked-Size": str(len(content)), "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._send(content, headers=headers)
        start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self._send(content[start : end + 1], 206, headers)


def _first_level(entries, prefix):
    found = {}
    for entry in entries:
        first, *deeper = entry["path"][len(prefix) :].split("/")
        found[first] = {"type": "directory", "path": prefix + first, "oid": EMPTY_COMMIT} if deeper else entry
    return list(found.values())


REPO = r"(?P<kind>models|datasets)/(?P<repo_id>[\w.-]+/[\w.-]+)"
REVISION = r"(?P<revision>refs/[^/]+/[^/]+|[^/]+)"
PAGE = r"(?:(?P<kind>datasets)/)?(?P<repo_id>[\w.-]+/[\w.-]+?)"
ROUTES = [
    (("GET",), r"/api/whoami-v2", _Handler.whoami),
    (("POST",), r"/api/repos/create", _Handler.create),
    (("POST",), r"/api/validate-yaml", _Handler.validate_yaml),
    (("GET", "HEAD"), rf"/api/{REPO}", _Handler.info),
    (("GET", "HEAD"), rf"/api/{REPO}/revision/{REVISION}", _Handler.info),
    (("GET",), rf"/api/{REPO}/refs", _Handler.refs),
    (("GET",), rf"/api/{REPO}/tree/{REVISION}(?P<folder>/.*)?", _Handler.tree),
    (("POST",), rf"/api/{REPO}/paths-info/{REVISION}", _Handler.paths_info),
    (("POST",), rf"/api/{REPO}/preupload/{REVISION}", _Handler.preupload),
    (("POST",), rf"/api/{REPO}/commit/{REVISION}", _Handler.commit),
    (("POST",), rf"/{PAGE}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (("PUT",), r"/lfs/(?P<sha>[0-9a-f]{64})", _Handler.lfs_put),
    (("GET", "HEAD"), rf"/{PAGE}/resolve/{REVISION}/(?P<path>.+)", _Handler.resolve),
]
