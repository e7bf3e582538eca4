"""One BitTorrent peer (libtorrent), a rival in `cargo xtask bench`.

make FILE TORRENT [TRACKER [WEB]]    writes the torrent of a file, prints its info hash
seed TORRENT DIR IP:PORT [utp]       prints "ready" and sends what is in DIR until it is killed
get TORRENT DIR IP:PORT PEER [utp]   fetches into DIR from the peer at PEER (IP:PORT), and ends

join TORRENT DIR IP:PORT DONE        a member of a site: asks the tracker, the LAN and the web seed, makes the file DONE
                                     when all is written, and goes on to send until it is killed

Over TCP, unless `utp` says otherwise: in clear text, the fastest that it can do. Over uTP it yields to other traffic.
"""

import os
import sys
import time

import libtorrent as lt

PIECE = 1 << 20


def make(file, torrent, tracker=None, web=None):
    files = lt.file_storage()
    lt.add_files(files, file)
    # Version 1 only (the bindings have no name for it), as nearly all torrents are: one hash of each byte.
    made = lt.create_torrent(files, PIECE, flags=1 << 6)
    if tracker:
        made.add_tracker(tracker)
    if web:
        made.add_url_seed(web)
    lt.set_piece_hashes(made, os.path.dirname(file))
    with open(torrent, "wb") as out:
        out.write(lt.bencode(made.generate()))
    print(lt.torrent_info(torrent).info_hash())


def session(listen, over):
    # Nothing is looked for, the peer is named.
    utp = over == "utp"
    return lt.session({
        "listen_interfaces": listen,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_tcp": not utp,
        "enable_incoming_tcp": not utp,
        "enable_outgoing_utp": utp,
        "enable_incoming_utp": utp,
        "out_enc_policy": 2,
        "in_enc_policy": 2,
        "allow_multiple_connections_per_ip": True,
        "alert_mask": 0,
    })


def add(running, torrent, directory, flags):
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(torrent)
    wanted.save_path = directory
    wanted.flags = flags
    return running.add_torrent(wanted)


def seed(torrent, directory, listen, over="tcp"):
    running = session(listen, over)
    handle = add(running, torrent, directory, lt.torrent_flags.seed_mode)
    while handle.status().state != lt.torrent_status.seeding:
        time.sleep(0.01)
    print("ready", flush=True)
    while True:
        time.sleep(60)


def get(torrent, directory, listen, peer, over="tcp"):
    running = session(listen, over)
    handle = add(running, torrent, directory, 0)
    host, port = peer.rsplit(":", 1)
    while handle.status().state in (lt.torrent_status.checking_files, lt.torrent_status.checking_resume_data):
        time.sleep(0.002)
    handle.connect_peer((host, int(port)))
    while not handle.status().is_seeding:
        time.sleep(0.002)


def join(torrent, directory, listen, done):
    running = lt.session({
        "listen_interfaces": listen,
        "enable_dht": False,
        "enable_lsd": True,
        "enable_upnp": False,
        "enable_natpmp": False,
        "alert_mask": lt.alert.category_t.storage_notification,
    })
    handle = add(running, torrent, directory, 0)
    while not handle.status().is_seeding:
        time.sleep(0.01)
    # It has all pieces before all of them are written.
    handle.flush_cache()
    while not any(isinstance(alert, lt.cache_flushed_alert) for alert in running.pop_alerts()):
        time.sleep(0.01)
    open(done, "w").close()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    {"make": make, "seed": seed, "get": get, "join": join}[sys.argv[1]](*sys.argv[2:])
