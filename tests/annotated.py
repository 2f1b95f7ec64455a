"""One small file, or folder of files, of each format as its own tool writes it, and documents drawn at random."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipelines.annotations.document import Boxes, Document, Media, Segments, no_boxes, no_segments

Row = tuple[str, str | None, float | None, float | None, float | None]
SegmentRows = list[tuple[float, float, str, float]]
VideoRows = dict[str, SegmentRows]
BoxRow = tuple[str, str | None, float | None, tuple[float | None, ...], int, float | None]

_CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task><id>5</id><name>My task</name><size>100</size><mode>interpolation</mode>
      <labels><label><name>person</name><attributes></attributes></label><label><name>dog</name></label></labels>
      <original_size><width>200</width><height>100</height></original_size>
      <source>yard.mp4</source>
    </task>
    <dumped>2024-01-01 10:00:00+00:00</dumped>
  </meta>
  <track id="0" label="person" source="manual">
    <box frame="0" keyframe="1" outside="0" occluded="0" xtl="20.0" ytl="10.0" xbr="60.0" ybr="50.0" z_order="0"></box>
    <box frame="2" keyframe="1" outside="0" occluded="0" xtl="40.0" ytl="10.0" xbr="80.0" ybr="50.0" z_order="0"></box>
    <box frame="3" keyframe="1" outside="1" occluded="0" xtl="40.0" ytl="10.0" xbr="80.0" ybr="50.0" z_order="0"></box>
    <box frame="5" keyframe="1" outside="0" occluded="0" xtl="0.0" ytl="0.0" xbr="20.0" ybr="10.0" z_order="0"></box>
  </track>
  <track id="1" label="dog" source="manual"><polygon frame="0" points="1,2;3,4;5,6"/></track>
</annotations>
"""
_TAGS = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><size>50</size></task></meta>
  <image id="9" name="frame_000009" width="200" height="100"><tag label="rain" source="manual"></tag></image>
  <image id="10" name="frame_000010" width="200" height="100">
    <tag label="rain" source="manual"></tag>
    <box label="dog" source="manual" occluded="0" xtl="20" ytl="10" xbr="60" ybr="50" z_order="0"></box>
  </image>
  <image id="20" name="frame_000020" width="200" height="100"><tag label="rain" source="manual"></tag></image>
</annotations>
"""
_ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-01T10:00:00+01:00" FORMAT="3.0" VERSION="3.0"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/talks/two%20people.mp4" MIME_TYPE="video/mp4"/>
    <PROPERTY NAME="lastUsedAnnotationId">4</PROPERTY>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="780"/>
    <TIME_SLOT TIME_SLOT_ID="ts2"/>
    <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="2780"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="left hand">
    <ANNOTATION>
      <ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
        <ANNOTATION_VALUE>wave &amp; point</ANNOTATION_VALUE>
      </ALIGNABLE_ANNOTATION>
    </ANNOTATION>
    <ANNOTATION>
      <ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
        <ANNOTATION_VALUE></ANNOTATION_VALUE>
      </ALIGNABLE_ANNOTATION>
    </ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="note" PARENT_REF="left hand" TIER_ID="note">
    <ANNOTATION>
      <REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1"><ANNOTATION_VALUE>odd</ANNOTATION_VALUE></REF_ANNOTATION>
    </ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="empty"/>
  <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""
_VTT = """WEBVTT - one match
Kind: captions

NOTE made by hand

STYLE
::cue { color: white }

1
00:00:01.500 --> 00:00:04.000 align:start position:0%
<v Ann>kick &amp; run</v>

00:02.250 --> 01:00:00.000
two
lines
"""
_BORIS_EVENTS = (
    "Observation id,Observation date,Description,Observation duration,Observation type,Source,Time offset (s),"
    "Media duration (s),FPS (frame/s),Subject,Behavior,Behavioral category,Modifier #1,Behavior type,Time,"
    "Media file name,Image index,Comment\n"
    'obs1,2024-01-01,"a, b",60.0,Media file(s),player #1:a/cage.mp4,0.0,60.5,25.0,rat 1,dig,,left,START,1.5,'
    "a/cage.mp4,38,\n"
    "obs1,2024-01-01,,60.0,Media file(s),player #1:a/cage.mp4,0.0,60.5,25.0,rat 2,dig,,left,START,2.0,a/cage.mp4,50,\n"
    "obs1,2024-01-01,,60.0,Media file(s),player #1:a/cage.mp4,0.0,60.5,25.0,rat 1,sniff,,,POINT,2.5,a/cage.mp4,63,\n"
    "obs1,2024-01-01,,60.0,Media file(s),player #1:a/cage.mp4,0.0,60.5,25.0,rat 1,dig,,left,STOP,4.25,a/cage.mp4,106,\n"
    "obs1,2024-01-01,,60.0,Media file(s),player #1:a/cage.mp4,0.0,60.5,25.0,rat 2,dig,,left,STOP,5.0,a/cage.mp4,125,\n"
)
_BORIS_OLD = (
    "Observation id\tobs1\n\nMedia file(s)\n\nPlayer #1\tcage.avi\n\n"
    "Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus\n"
    "1.5\tcage.avi\t60.5\t25\tNo focal subject\tdig\t\t\tSTART\n"
    "4.25\tcage.avi\t60.5\t25\tNo focal subject\tdig\t\t\tSTOP\n"
)
_BORIS_AGGREGATED = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Media duration (s),"
    "FPS (frame/s),Subject,Behavior,Behavioral category,Modifiers,Behavior type,Start (s),Stop (s),Duration (s),"
    "Media file name,Comment start,Comment stop\n"
    "obs1,2024-01-01,,Media file(s),player #1:cage.mp4,0.0,60.5,25.0,No focal subject,dig,,,STATE,1.5,4.25,2.75,"
    "cage.mp4,,\n"
)
_VIA = {
    "project": {"pid": "__VIA_PROJECT_ID__", "pname": "p", "data_format_version": "3.1.2", "vid_list": ["1", "2"]},
    "config": {"file": {"loc_prefix": {"1": ""}}},
    "attribute": {
        "1": {
            "aname": "act",
            "anchor_id": "FILE1_Z2_XY0",
            "type": 4,
            "options": {"a": "pour", "b": "cut"},
            "default_option_id": "",
        },
        "2": {"aname": "act", "anchor_id": "FILE1_Z1_XY1", "type": 1, "options": {}, "default_option_id": ""},
    },
    "file": {
        "1": {"fid": "1", "fname": "tea.mp4", "type": 4, "loc": 1, "src": ""},
        "2": {"fid": "2", "fname": "eggs.mp4", "type": 4, "loc": 1, "src": ""},
    },
    "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    "metadata": {
        "1_x": {"vid": "1", "flg": 0, "z": [1.25, 3.5], "xy": [], "av": {"1": "b"}},
        "2_y": {"vid": "2", "flg": 0, "z": [7], "xy": [2, 20, 10, 40, 40], "av": {"2": "egg"}},
        "2_z": {"vid": "2", "flg": 0, "z": [], "xy": [1, 3, 4], "av": {}},
    },
}
_LABEL_STUDIO = [
    {
        "id": 3,
        "data": {"video": "/data/upload/1/0a1b2c3d-yard.mp4"},
        "annotations": [
            {
                "id": 8,
                "result": [
                    {
                        "original_length": 12.5,
                        "value": {"start": 1.25, "end": 3.5, "channel": 0, "labels": ["bark"]},
                        "id": "s1",
                        "from_name": "tricks",
                        "to_name": "audio",
                        "type": "labels",
                    },
                    {
                        "value": {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["run"]},
                        "id": "t1",
                        "from_name": "t",
                        "to_name": "video",
                        "type": "timelinelabels",
                    },
                    {
                        "value": {
                            "framesCount": 250,
                            "duration": 10,
                            "sequence": [
                                {
                                    "frame": 1,
                                    "enabled": True,
                                    "rotation": 0,
                                    "x": 10,
                                    "y": 20,
                                    "width": 20,
                                    "height": 10,
                                },
                                {
                                    "frame": 3,
                                    "enabled": False,
                                    "rotation": 0,
                                    "x": 30,
                                    "y": 20,
                                    "width": 20,
                                    "height": 10,
                                },
                                {
                                    "frame": 9,
                                    "enabled": False,
                                    "rotation": 0,
                                    "x": 0,
                                    "y": 0,
                                    "width": 20,
                                    "height": 10,
                                },
                            ],
                            "labels": ["dog"],
                        },
                        "id": "k2j3",
                        "from_name": "box",
                        "to_name": "video",
                        "type": "videorectangle",
                    },
                    {
                        "value": {"choices": ["sunny"]},
                        "id": "c",
                        "from_name": "c",
                        "to_name": "video",
                        "type": "choices",
                    },
                    {"value": {"text": ["hm"]}, "id": "d", "from_name": "d", "to_name": "video", "type": "textarea"},
                ],
            }
        ],
        "predictions": [],
    }
]
_COCO_VID = {
    "videos": [{"id": 1, "name": "a/clip", "width": 200, "height": 100}],
    "images": [
        {"id": 11, "file_name": "a/clip/0.jpg", "video_id": 1, "frame_id": 0, "width": 200, "height": 100},
        {"id": 12, "file_name": "a/clip/5.jpg", "video_id": 1, "frame_id": 5, "width": 200, "height": 100},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 12,
            "video_id": 1,
            "category_id": 7,
            "instance_id": 4,
            "bbox": [20, 10, 40, 40],
            "area": 1600,
            "iscrowd": 0,
        }
    ],
    "categories": [{"id": 7, "name": "dog"}],
}
_SEQINFO = (
    "[Sequence]\nname=MOT16-02\nimDir=img1\nframeRate=30\nseqLength=600\nimWidth=1920\nimHeight=1080\nimExt=.jpg\n"
)
_PBTXT = 'item {\n  name: "sit"\n  id: 11\n}\nitem {\n  name: "stand"\n  id: 12\n}\n'
_ACTIONFORMER = {
    "version": "Thumos14-30fps",
    "database": {
        "video_test_0000004": {
            "subset": "Test",
            "duration": 33.73,
            "fps": 30.0,
            "annotations": [
                {"label": "Dive", "segment": [0.2, 1.1], "segment(frames)": [6.0, 33.0], "label_id": 5},
            ],
        }
    },
}

EXAMPLES: dict[str, dict[str, str]] = {
    "activitynet": {
        "a.json": json.dumps(
            {
                "version": "VERSION 1.3",
                "taxonomy": [],
                "database": {
                    "v_a": {
                        "duration": 82.5,
                        "subset": "training",
                        "resolution": "320x240",
                        "url": "https://example.invalid/a",
                        "annotations": [{"segment": [6.5, 77.25], "label": "Ski"}, {"segment": [9, 3], "label": "Row"}],
                    },
                    "b": {"duration": 5, "subset": "testing", "annotations": []},
                },
            },
            indent=1,
        )
    },
    "activitynet-predictions": {
        "p.json": json.dumps(
            {
                "version": "VERSION 1.3",
                "results": {"b": [{"label": "Ski", "score": 0.5, "segment": [1.5, 2]}, {"label": "Row", "score": 1}]},
                "external_data": {"used": False},
            }
        )
    },
    "actionformer": {"thumos14.json": json.dumps(_ACTIONFORMER)},
    "actionformer-predictions": {
        "p.json": json.dumps({"database": {"v": [{"segment": [1.5, 2.5], "label_id": 5, "scores": 0.25}], "w": []}})
    },
    "opentad": {
        "anno.json": json.dumps(
            {
                "database": {
                    "v": {
                        "subset": "validation",
                        "duration": 10.0,
                        "frame": 250,
                        "annotations": [{"segment": [1.5, 2.5], "label": "Ski"}],
                    }
                }
            }
        )
    },
    "mmaction2": {
        "anet_anno_val.json": json.dumps(
            {
                "v_a": {
                    "duration_second": 10.0,
                    "duration_frame": 250,
                    "annotations": [{"segment": [1.5, 2.5], "label": "Ski"}],
                    "feature_frame": 240,
                    "fps": 25.0,
                    "rfps": 24.9,
                }
            }
        )
    },
    "thumos": {
        "detclasslist.txt": "7 BaseballPitch\n9 Diving\n",
        "Ambiguous_test.txt": "v1  3.0 4.0\n",
        "BaseballPitch_test.txt": "v1  47.0 49.2\nv2  31.4 33.1\n",
        "Diving_val.txt": "v3  1.0 0.5\n",
    },
    "thumos-detections": {"d.txt": "v1 198.766 208.83 9 0.170351\nv2 25.7 27.4 7 1e-3\n"},
    "ava": {
        "val.csv": (
            "u1,0902,0.077,0.151,0.283,0.811,11,1\nu1,0902,0.077,0.151,0.283,0.811,80,1\n"
            "u1,0903.5\nu2,0904,0.1,0.2,0.3,0.4,12,0\n"
        ),
        "list.pbtxt": _PBTXT,
    },
    "ava-detections": {"det.csv": "u1,0902,0.1,0.2,0.3,0.4,12,0.75\nu1,0902,0.1,0.2,0.3,0.4,11,1\n"},
    "ava-people": {"people.csv": "u1,0902,0.1,0.2,0.3,0.4,,0.75\nu1,0903,0.1,0.2,0.3,0.4,,1\n"},
    "charades": {
        "Charades_v1_train.csv": (
            "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
            '46GP8,HR43,Kitchen,6,7,Yes,"A person, cooking",food;pan,"Looks; eats",c092 11.90 21.20;c147 0.00 12.60,'
            "30.83\n"
            "N11GT,0KZ7,Stairs,6,7,No,He sits,,,,18.50\n"
        )
    },
    "kinetics": {
        "k.csv": 'label,youtube_id,time_start,time_end,split\ntesting apples,xyz,10,20,train\n"a, b",zyx,0,10,val\n'
    },
    "mstcn": {"vid_1.txt": "background\ntake\ntake\nbackground\n", "vid_2.txt": "pour\n"},
    "mstcn-result": {"vid_1": "### Frame level recognition: ###\ntake take background"},
    "coco-vid": {"c.json": json.dumps(_COCO_VID)},
    "mot": {
        "MOT16-02/seqinfo.ini": _SEQINFO,
        "MOT16-02/gt/gt.txt": "1,3,193,109,96,108,1,1,0.8\n31,3,1,1,192,108,0,7,1\n",
    },
    "mot-detections": {"det.txt": "1,-1,193,109,96,108,0.9,-1,-1,-1\n26,-1,1,1,20,20,0.5,-1,-1,-1\n"},
    "via": {"via.json": json.dumps(_VIA)},
    "elan": {"e.eaf": _ELAN},
    "boris": {"events.csv": _BORIS_EVENTS},
    "boris-old": {"events.tsv": _BORIS_OLD},
    "boris-aggregated": {"events.csv": _BORIS_AGGREGATED},
    "cvat": {"annotations.xml": _CVAT},
    "cvat-tags": {"yard.xml": _TAGS},
    "label-studio": {"export.json": json.dumps(_LABEL_STUDIO)},
    "audacity": {"day1.txt": "1.500000\t4.250000\tkick off\n5.000000\t5.000000\t\n\\\t100.0\t200.0\n"},
    "webvtt": {"day1.vtt": _VTT},
    "srt": {
        "day1.srt": (
            "1\n00:00:01,500 --> 00:00:04,000\n<i>kick & run</i>\n\n2\n01:00:00,000 --> 01:00:01,000\ntwo\nlines\n"
        )
    },
}


def example(name: str, folder: Path) -> Path:
    """Write the files of an example; the folder where there are several, else the file."""
    for file, text in EXAMPLES[name].items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    return folder if len(EXAMPLES[name]) > 1 else folder / next(iter(EXAMPLES[name]))


def segment_rows(document: Document) -> list[Row]:
    """Video, label, start, stop, score of each segment; None for none."""
    s, names = document.segments, [*document.labels, None]
    columns = zip(s.video.tolist(), s.label.tolist(), s.span_s.tolist(), s.score.tolist(), strict=True)
    return [
        (document.videos[video], names[label], rounded(start_s), rounded(stop_s), rounded(score))
        for video, label, (start_s, stop_s), score in columns
    ]


def box_rows(document: Document) -> list[BoxRow]:
    """Video, label, second, box, track and score of each box; None for none."""
    b, names = document.boxes, [*document.labels, None]
    columns = zip(b.video.tolist(), b.label.tolist(), b.second.tolist(), b.box.tolist(), strict=True)
    more = zip(b.track.tolist(), b.score.tolist(), strict=True)
    return [
        (document.videos[v], names[n], rounded(second), tuple(map(rounded, box)), track, rounded(score))
        for (v, n, second, box), (track, score) in zip(columns, more, strict=True)
    ]


def rounded(number: float) -> float | None:
    return None if number != number else round(number, 9)


def drawn_segments(seed: int, *, scored: bool = False, n: int = 24) -> Document:
    """Segments of three videos on a grid of a fortieth of a second."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 1000, n)
    span_s = np.stack([start, start + rng.integers(1, 200, n)], axis=1) / 40
    score = rng.uniform(0, 1, n) if scored else np.full(n, np.nan)
    rows = Segments(np.sort(rng.integers(0, 3, n)), rng.integers(0, 4, n), span_s, score)
    return Document("drawn", _media(rng), ("run", "jump", "sit", "fall"), rows, no_boxes())


def drawn_boxes(seed: int, *, scored: bool = False, n: int = 24) -> Document:
    """Boxes of three videos at frames of 40 a second; a person has one label."""
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, 0.5, (n, 2)), rng.uniform(0.05, 0.5, (n, 2))
    frames = np.sort(rng.permutation(1000)[:n])
    track = rng.integers(0, 3, n)
    score = rng.uniform(0, 1, n) if scored else np.full(n, np.nan)
    box = np.concatenate([corner, corner + side], axis=1)
    rows = Boxes(np.sort(rng.integers(0, 3, n)), frames / 40, box, track, track, score)
    return Document("drawn", _media(rng), ("run", "jump", "sit"), no_segments(), rows)


def _media(rng: np.random.Generator) -> dict[str, Media]:
    subsets = rng.choice(["training", "validation"], 3).tolist()
    return {f"v{n}": Media(40.0, 40.0, 640, 480, subset) for n, subset in enumerate(subsets)}


def activitynet_files(
    folder: Path, truth: VideoRows, predictions: VideoRows, subsets: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """Truth and predictions of videos of 100 s in ActivityNet's form; rows are start, stop, label and score, which the
    truth leaves out. ``subsets``: of some videos, in place of validation.
    """
    database = {
        video: {
            "subset": (subsets or {}).get(video, "validation"),
            "duration": 100.0,
            "annotations": [{"segment": [a, b], "label": label} for a, b, label, _ in rows],
        }
        for video, rows in truth.items()
    }
    results = {
        video: [{"segment": [a, b], "label": label, "score": s} for a, b, label, s in rows]
        for video, rows in predictions.items()
    }
    paths = folder / "truth.json", folder / "predictions.json"
    paths[0].write_text(json.dumps({"database": database}))
    paths[1].write_text(json.dumps({"results": results}))
    return paths
