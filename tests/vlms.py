"""Vision-language models of several classes with random weights, small enough for tests, as folders like a hub's.

Their tokenizers know single bytes and the special tokens of the class; chat templates are short ones of the same kind
as the released ones.
"""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    SiglipImageProcessor,
    set_seed,
)

SIDE = 28  # pixels of a side that the towers see
TEXT = dict(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
)
VISION = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=14
)


def tokenizer(marks, adds_begin=False, named=None, **special):
    "A tokenizer of bytes; with `adds_begin` it puts its begin-of-text token in front of a text, as Gemma's does."
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {t: i for i, t in enumerate([*special.values(), *marks, *alphabet])}
    bare = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if adds_begin:
        begin = special["bos_token"]
        bare.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, vocabulary[begin])]
        )
    bare.add_special_tokens([*special.values(), *marks])
    return PreTrainedTokenizerFast(tokenizer_object=bare, extra_special_tokens=named or {}, **special)


def qwen(path):
    "Qwen2.5-VL: its projector, the merger, is a part of the vision tower."
    marks = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words = tokenizer(marks, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
        "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    id = words.convert_tokens_to_ids
    ids = dict(
        image_token_id=id("<|image_pad|>"),
        video_token_id=id("<|video_pad|>"),
        vision_start_token_id=id("<|vision_start|>"),
        vision_end_token_id=id("<|vision_end|>"),
    )
    text = TEXT | dict(
        vocab_size=len(words),
        rope_scaling=dict(type="mrope", mrope_section=[2, 3, 3]),
        pad_token_id=words.pad_token_id,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
    )
    vision = dict(
        depth=2,
        hidden_size=32,
        intermediate_size=48,
        num_heads=2,
        out_hidden_size=64,
        patch_size=14,
        window_size=56,
        fullatt_block_indexes=[1],
    )
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    )
    size = dict(min_pixels=56 * 56, max_pixels=56 * 56)
    save(
        path,
        model,
        Qwen2_5_VLProcessor(
            Qwen2VLImageProcessor(**size), words, Qwen2VLVideoProcessor(**size), chat_template=template
        ),
    )


def gemma3(path):
    "Gemma 3: template and tokenizer both know how a text begins; embeddings are tied."
    named = dict(boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>")
    words = tokenizer(
        ["<start_of_turn>", "<end_of_turn>", *named.values()],
        True,
        named,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
    )
    template = (
        "{{ bos_token }}{% for m in messages %}<start_of_turn>"
        "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<start_of_image>{% else %}{{ c['text'] | trim }}{% endif %}"
        "{% endfor %}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    )
    id = words.convert_tokens_to_ids
    text = TEXT | dict(
        vocab_size=len(words),
        head_dim=16,
        sliding_window=64,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    config = Gemma3Config(
        text_config=text,
        vision_config=VISION,
        mm_tokens_per_image=4,
        image_token_id=id("<image_soft_token>"),
        image_token_index=id("<image_soft_token>"),
        boi_token_index=id("<start_of_image>"),
        eoi_token_index=id("<end_of_image>"),
    )
    images = Gemma3ImageProcessor(size=dict(height=SIDE, width=SIDE))
    model = Gemma3ForConditionalGeneration(config)
    nn.init.normal_(
        model.model.multi_modal_projector.mm_input_projection_weight, std=0.1
    )  # without training it is 0, and nothing of an image goes through
    save(path, model, Gemma3Processor(images, words, chat_template=template, image_seq_length=4))


def paligemma(path):
    "PaliGemma: no chat template; the prompt is read in both directions, the answer from left to right."
    words = tokenizer(["<image>"], pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    images = SiglipImageProcessor(size=dict(height=SIDE, width=SIDE), image_seq_length=4)
    images.image_seq_length = 4
    processor = PaliGemmaProcessor(images, words)
    text = TEXT | dict(
        model_type="gemma",
        head_dim=16,
        vocab_size=len(words),
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    config = PaliGemmaConfig(
        text_config=text,
        vision_config=VISION | dict(model_type="siglip_vision_model", projection_dim=64),
        projection_dim=64,
        image_token_id=processor.image_token_id,
        image_token_index=processor.image_token_id,
    )
    save(path, PaliGemmaForConditionalGeneration(config), processor)


def save(path, model, processor):
    model.generation_config.update(
        pad_token_id=processor.tokenizer.pad_token_id, eos_token_id=processor.tokenizer.eos_token_id
    )
    model.save_pretrained(path), processor.save_pretrained(path)


CLASSES = dict(qwen=qwen, gemma3=gemma3, paligemma=paligemma)


def make(name, path):
    "Save a model of a class below `path`, the same every time."
    set_seed(0)
    CLASSES[name](path / name)
    return path / name
